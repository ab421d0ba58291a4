"""Points where a wrong answer costs, and where they were lost."""

from course_lib.exam.questions import ExamQuestion
from course_lib.exam.report import answered_in_vain, lost_points, points
from course_lib.rag.prompt import REFUSAL

QUESTIONS = [
    ExamQuestion("right", "?", (), "KRW 5"),
    ExamQuestion("unread", "?", (), "KRW 5"),
    ExamQuestion("option", "?", ("KRW 5", "KRW 6"), "KRW 5"),
    ExamQuestion("unfound", "?", (), "KRW 5"),
    ExamQuestion("half", "?", (), "KRW 5; 2 days"),
    ExamQuestion("vain", "?", (), REFUSAL),
    ExamQuestion("refused", "?", (), REFUSAL),
]
ANSWERS = {
    "right": "krw 5",
    "unread": REFUSAL,
    "option": "KRW 6",
    "unfound": "KRW 7",
    "half": "KRW 5",
    "vain": "KRW 1",
    "refused": "not in the handbook",
}
NEEDED = {"right": {"a"}, "unread": {"a"}, "option": {"a"}, "unfound": {"a"}, "half": {"a", "b"}}
FOUND = {"right": ["a"], "unread": ["b", "a"], "option": ["a"], "unfound": ["b"], "half": ["a"]}


def test_each_point_is_lost_to_its_first_cause():
    none = {"vain": (), "refused": ()}
    counts = lost_points(QUESTIONS, ANSWERS, FOUND | none, NEEDED | none)
    assert counts == {"right": 2, "not found": 2, "wrong option": 1, "not read": 1, "answered in vain": 1}
    assert sum(counts.values()) == len(QUESTIONS)


def test_a_refusal_costs_nothing_and_a_wrong_answer_does():
    assert points(QUESTIONS, ANSWERS, wrong=-0.5) == [1, 0, -0.5, -0.5, -0.5, -0.5, 1]
    assert answered_in_vain(QUESTIONS, ANSWERS).value == 0.5
