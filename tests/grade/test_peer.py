"""Two peers that call each other over pipes, here in two threads of one process."""

import json
import os
import threading
import warnings

import numpy as np
import pytest

from course_lib import data
from course_lib.grade.peer import Broken, Gone, Peer, PeerFailed, RemoteFunction


@pytest.fixture
def served():
    """A function that gives a function to a peer in another thread, and returns it as this side calls it."""
    fds, threads = [], []

    def serve(function, catch=BaseException):
        (a, b), (c, d) = os.pipe(), os.pipe()
        fds.extend((a, b, c, d))
        here, there = Peer(c, b), Peer(a, d, catch=catch, trusts=True)
        remote = here.unpack(there.pack(function))

        def run():
            with pytest.raises(PeerFailed):
                there.serve()

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return remote

    yield serve
    for fd in fds[1::4]:
        os.close(fd)
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        0.5,
        "하늘",
        b"\xff",
        (1, [2, {3: {4}}]),
        {(1, 2): frozenset({3})},
        1j,
        range(3),
        ...,
        float("inf"),
    ],
    ids=repr,
)
def test_values_go_there_and_back(served, value):
    back = served(lambda x: x)(value)
    assert back == value and type(back) is type(value)


def test_records_are_made_again_only_where_the_other_side_is_trusted(served):
    question = next(iter(data.load_questions("validation")))
    remote = served(lambda q: (q.question, q))
    text, back = remote(question)
    assert text == question.question, "the answer gets the record"
    assert type(back).__name__ == "Foreign" and not hasattr(back, "question"), "the judge gets none"


@pytest.mark.parametrize("dtype", ["float32", "int8", "bool", "U3", "complex64"])
def test_arrays_keep_their_kind(served, dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    back = served(lambda x: x[:, ::-1])(array)
    assert back.dtype == array.dtype and (back == array[:, ::-1]).all()
    assert isinstance(served(lambda x: x[0, 0])(array), np.generic)


def test_functions_and_iterators_go_both_ways(served):
    remote = served(lambda f, items: (f(item) for item in items))
    read = []
    result = remote(lambda x: x + 1, (read.append(i) or i for i in range(3)))
    assert next(result) == 1 and read == [0], "an item is computed when it is asked for"
    assert list(result) == [2, 3]


def test_a_function_that_comes_home_is_itself(served):
    def own(x):
        return x

    remote = served(lambda f: f)
    assert remote(own) is own and remote(own) is own
    assert len(remote.peer._shared) == 1, "it is registered once"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KeyError("a"), KeyError),
        (json.JSONDecodeError("no", "x", 0), json.JSONDecodeError),
        (SystemExit(2), Exception),
    ],
)
def test_exceptions_keep_their_class(served, error, kind):
    def fails():
        raise error

    with pytest.raises(kind) as caught:
        served(fails)()
    assert type(caught.value).__name__ == type(error).__name__ and str(caught.value) == str(error)


def test_an_exception_of_the_learners_own_is_a_new_one(served):
    class TooBad(Exception):
        pass

    def fails():
        raise TooBad("of mine")

    with pytest.raises(Exception, match="of mine") as caught:
        served(fails)()
    assert type(caught.value).__name__ == "TooBad" and type(caught.value) is not TooBad


def test_only_what_is_to_be_caught_is_sent():
    """A Ctrl-C in a call-back of the checker is no error of the answer."""
    (a, b), (c, d) = os.pipe(), os.pipe()
    peer = Peer(a, d)
    there = Peer(c, b)

    def interrupted():
        raise KeyboardInterrupt

    there.unpack(peer.pack(interrupted))
    with pytest.raises(KeyboardInterrupt):
        peer._serve_one({"call": 0, "arguments": {"tuple": []}, "named": {"dict": []}})
    for fd in (a, b, c, d):
        os.close(fd)


@pytest.mark.parametrize("argument", [[0], {"a": 0}, {0}, np.zeros(2)], ids=["list", "dict", "set", "array"])
@pytest.mark.parametrize("named", [False, True])
def test_arguments_are_changed_here_as_there(served, argument, named):
    def change(x):
        if isinstance(x, list):
            x.append(1)
        elif isinstance(x, dict):
            x["b"] = 1
        elif isinstance(x, set):
            x.add(1)
        else:
            x += 1

    remote, expected = served(change), argument.copy()
    change(expected)
    assert (remote(x=argument) if named else remote(argument)) is None
    assert np.array_equal(argument, expected) if isinstance(argument, np.ndarray) else argument == expected


@pytest.mark.parametrize("item", ["itself", "a huge number"])
def test_an_argument_that_cannot_be_sent_back_is_an_error_of_the_answer(served, item):
    def change(x):
        x.append(x if item == "itself" else 10**5000)

    remote = served(change)
    with pytest.raises((ValueError, RecursionError)):
        remote([1])
    with pytest.raises((ValueError, RecursionError)):
        remote([1])  # the process is still there


def test_a_result_that_cannot_be_sent_is_an_error_of_the_answer(served):
    with pytest.raises(ValueError, match="4300"):
        served(lambda: 10**5000)()


def test_warnings_arrive(served):
    def warns():
        warnings.warn("careful", stacklevel=1)
        return 1

    with pytest.warns(RuntimeWarning, match="careful"):
        assert served(warns)() == 1


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"value": 1},
        {"value": 1, "warnings": 3, "changed": []},
        {"value": 1, "warnings": [], "changed": 5},
        {"value": 1, "warnings": [], "changed": [[7, 1]]},
        {"value": 1, "warnings": [], "changed": [[0, {"set": []}], 3]},
        {"value": {"no": 1}, "warnings": [], "changed": []},
        {"value": {"array": "!", "dtype": "O", "shape": [1]}, "warnings": [], "changed": []},
        {"value": {"fraction": [1, 0]}, "warnings": [], "changed": []},
        {"value": {"fraction": ["1e999999999"]}, "warnings": [], "changed": []},  # would compute for hours
        {"call": 0},
        {"call": 99, "arguments": {"tuple": []}, "named": {"dict": []}},
        {"call": 0, "arguments": 3, "named": {"dict": []}},
    ],
    ids=json.dumps,
)
def test_a_reply_of_another_form_is_no_error_of_the_answer(reply):
    (a, b), (c, d) = os.pipe(), os.pipe()
    peer = Peer(a, d)
    peer.pack(print)
    os.write(b, json.dumps(reply).encode() + b"\n")
    with pytest.raises(Broken):
        RemoteFunction(peer, 0)([1])
    for fd in (a, b, c, d):
        os.close(fd)


def test_a_closed_pipe_is_told_as_such():
    a, b = os.pipe()
    os.close(b)
    with pytest.raises(Gone):
        Peer(a, b).receive()
    os.close(a)
    for peer in (Peer(a, b),):
        with pytest.raises(Gone):
            peer.receive()
        with pytest.raises(Gone):
            peer.send({})
