"""Chapter 09's widget: its minutes are those of the plan, and the text alone says what the picture shows."""

import pytest

from course_lib.errors import CourseError
from course_lib.exam.cards import card, cards
from course_lib.exam.plan import FORMATS, Exam, limits, plan_exam
from course_lib.learn.widgets.exam_plan import MODELS, exam_plan

NAME = "GeForce RTX 3090, 24 GB"


@pytest.fixture(scope="module")
def explorer():
    return exam_plan()


def test_every_control_changes_what_is_said():
    small = exam_plan(["EXAONE-3.5-7.8B", "gemma-3-12b"])
    assert small.drive() == 2 + 1 + len(cards()) + 1 + len(FORMATS) + 1 + 3 * 3


def test_the_text_is_the_plan_and_its_limits(explorer):
    asked = {"model": "Qwen2.5-14B", "card": NAME, "weight_format": "q8_0", "batch": 2, "passages": 5}
    text = explorer.output_for(**asked, answer_tokens=100).text
    planned = plan_exam("Qwen2.5-14B", card(NAME), Exam(passages=5, answer_tokens=100), "q8_0", 2)
    assert text.startswith(str(planned))
    for limit in limits(planned):
        assert f"\n- {limit.most:,} " in text
    assert "then the memory is full" in text and "then the time is over" in text


def test_an_exam_beyond_the_usual_range_is_planned_as_it_is():
    asked = Exam(passages=60, answer_tokens=5000)
    widget = exam_plan(["EXAONE-3.5-7.8B"], asked)
    assert widget.box and widget.fields["passages"].value == 60  # a slider clips what lies beyond its end
    assert widget.output.text.startswith(str(plan_exam("EXAONE-3.5-7.8B", card("RTX 4090"), asked, "q4_k_m")))


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_a_plan(explorer, model):
    assert explorer.output_for(model=model).text.startswith(f"{model} in q4_k_m on ")


def test_the_bar_has_the_minutes_of_the_text_and_the_limit(explorer):
    axes = explorer.output_for(answer_tokens=1000).picture.axes[0]
    planned = plan_exam(MODELS[0], card("RTX 4090"), Exam(answer_tokens=1000), "q4_k_m")
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == pytest.approx([part.value / 60 for part in planned.seconds.values()])
    assert list(axes.lines[0].get_xdata()) == [270, 270]


def test_what_does_not_fit_has_no_limits(explorer):
    text = explorer.output_for(model="EXAONE-3.5-32B", weight_format="float16").text
    assert "it does not fit" in text and "At most" not in text


def test_too_long_a_prompt_is_refused_in_words(explorer):
    text, picture = explorer.output_for(passages=30)
    assert text.startswith("6,100 tokens read and 48 written") and "Fix: give at most 19 passages" in text
    assert picture is None


def test_no_plan_at_all_in_time_says_none(explorer):
    text = explorer.output_for(model="EXAONE-3.5-7.8B", answer_tokens=4000).text
    assert "too slow" in text and "- none passages, then the time is over" in text


def test_own_exams_and_models():
    assert "for 40 questions" in exam_plan(exam=Exam(questions=40)).title.lower()
    with pytest.raises(CourseError, match="does not know"):
        exam_plan(["EXAONE-9"])
    with pytest.raises(ValueError, match="no models"):
        exam_plan([])
