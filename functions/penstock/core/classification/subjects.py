"""Words that tell what a text is about, found as whole words where their script has such."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

MEDICAL = (
    *("diagnosis", "diagnosed with", "prescription", "prescribed", "symptoms", "patient", "chemotherapy", "biopsy"),
    *("antidepressant", "hiv", "blood pressure", "medical record", "miscarriage", "insulin"),
    *("diagnose", "patientin", "befund", "krankheit", "rezept vom arzt", "diagnostic médical", "ordonnance"),
    *(
        "diagnóstico",
        "paciente",
        "receta médica",
        "диагноз",
        "пациент",
        "诊断",
        "患者",
        "病历",
        "診断",
        "تشخيص",
        "مريض",
        "रोगी",
    ),
)
LEGAL = (
    *("attorney", "lawsuit", "plaintiff", "defendant", "subpoena", "settlement agreement", "privileged", "litigation"),
    *("custody", "indictment", "under nda", "rechtsanwalt", "klageschrift", "mandant", "avocat", "assignation"),
    *("abogado", "demanda judicial", "адвокат", "исковое", "律师", "诉讼", "弁護士", "訴訟", "محامي", "दावा"),
)


def subject(words: Iterable[str]) -> Callable[[str], bool]:
    """Whether a text holds one of these words, whatever its case."""
    search = re.compile(one_of(words), re.IGNORECASE).search
    return lambda text: search(text) is not None


def one_of(words: Iterable[str]) -> str:
    """A pattern of whole words; scripts without spaces between words have no edges to look for."""
    return "|".join(map(_edged, sorted(words, key=len, reverse=True)))


def _edged(word: str) -> str:
    plain = re.escape(word.strip())
    return rf"\b{plain}\b" if word[0].isascii() or "\u0370" <= word[0] < "\u0900" else plain
