"""Exercises of chapter 08, on pictures: what a model sees, drawing by removing noise, blur, and faces.

PSNR is 10 log10(1 / mean squared error); guidance is how strongly a prompt acts on a picture that a model,
the painter, draws; far is the false accept rate, the chance that two faces are taken for one person. The
chapter's notebook tells the student what each one asks; the docstring of its checker says it in short. The
last of the hints is nearly the solution.
"""

from __future__ import annotations

from course_lib.learn.exercises.engine import Exercise
from course_lib.learn.exercises.feedback_08_drawing import check_perfect, check_steps
from course_lib.learn.exercises.feedback_08_faces import check_alarms, check_memory, check_threshold
from course_lib.learn.exercises.feedback_08_pictures import check_blur, check_covering, check_split

EXERCISES = (
    Exercise(
        "08.1",
        "which part of the picture matters",
        (
            "Compare the score of the whole picture with that of a picture in which one patch is grey.",
            "Each patch is covered alone: begin with a fresh copy of the picture for each.",
            "copy[top : top + patch, left : left + patch] = 0.5 covers one. An important patch "
            "lowers the score.",
        ),
        check_covering,
    ),
    Exercise(
        "08.2",
        "the perfect denoiser",
        (
            "If the point was p, what was the noise? Do that for every point, then take a mean.",
            "Not all points are equally likely once x is seen: near ones are likelier. The "
            "density of the noise says how much.",
            "weight = exp(-|x - p|**2 / (2 * sigma**2)). If all weights become 0, subtract the "
            "largest exponent first.",
        ),
        check_perfect,
    ),
    Exercise(
        "08.3",
        "how many steps are affordable",
        (
            "Which work is done once, which once for each picture, and which at each step?",
            "Guidance asks the network twice at each step: with the prompt, and with the empty prompt.",
            "Subtract everything but the steps from the time, and divide what is left by the "
            "time of one step of all pictures.",
        ),
        check_steps,
    ),
    Exercise(
        "08.4",
        "why PSNR likes blur",
        (
            "Which one number has the least mean squared distance to the values?",
            "The painter draws one value, the truth is another one, drawn independently. How far "
            "apart are the two?",
            "PSNR = 10 * log10(1 / error). Sum over all pairs of drawn and true value, each with "
            "the product of its chances.",
        ),
        check_blur,
    ),
    Exercise(
        "08.5",
        "what was invented",
        (
            "A small picture knows the mean of each block, and nothing else.",
            "Split the error, large - truth, into its block means and what is left.",
            "reshape(h // scale, scale, w // scale, scale).mean((1, 3)) gives block means; "
            "np.repeat makes them large again.",
        ),
        check_split,
    ),
    Exercise(
        "08.6",
        "one threshold for all",
        (
            "Begin with one group: sort its distances. How many of its pairs may lie below the threshold?",
            "If k pairs may, the threshold can rise to the next distance, but not above it: "
            "'below' excludes it.",
            "The rule must hold in every group. Which of the groups' thresholds keeps it in all of them?",
        ),
        check_threshold,
    ),
    Exercise(
        "08.7",
        "alarms at a gate",
        (
            "How likely is it that a person who is not listed is mistaken for none of the listed faces?",
            "The chances of independent comparisons multiply: (1 - far) ** listed.",
            "Count both kinds of alarms, then divide: false / (false + right).",
        ),
        check_alarms,
    ),
    Exercise(
        "08.8",
        "all at once, or one by one",
        (
            "The parts compute one after another. Which of them compute at the same time?",
            "All loaded: every part's weights, and the work of the one that computes.",
            "One by one: only the part that computes is there, with its own work. Which one needs the most?",
        ),
        check_memory,
    ),
)
