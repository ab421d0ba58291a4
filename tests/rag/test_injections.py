"""The injections are distinct, and the filter finds the wordings that it was written for, and no new one."""

from course_lib.rag.injections import ALL, FALSE_FACTS, KNOWN, NEW
from course_lib.rag.instructions import split_instructions


def found(order):
    return split_instructions(f"The fee is KRW 500. {order.format(x='PINEAPPLE')}")


def test_at_least_twenty_and_each_says_what_the_attacker_wants():
    assert len(set(ALL)) == len(KNOWN) + len(NEW) + len(FALSE_FACTS) >= 20
    assert all("{x}" in order for order in ALL)


def test_known_wordings_are_taken_out_whole_and_others_are_not():
    assert all(found(order)[0] == "The fee is KRW 500." for order in KNOWN)
    assert not any(found(order)[1] for order in NEW + FALSE_FACTS)
