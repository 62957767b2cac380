"""Words that trackers go by, folded as text is: refusals, frames that ask a model out of its role, and pressure.

Patterns are RE2 over the folded beginning of a text. They are weak signs by design: nothing here makes a finding by
itself, and each counts only together with what happened in the session before.
"""

from __future__ import annotations

from typing import Any

import re2

from services.detection.domain import folding
from services.detection.domain.rules import fold_pattern

_HEAD = 400
"""Characters of a text that are looked at: a refusal says so at once."""


def _any(*patterns: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    return re2.compile("|".join(f"(?:{fold_pattern(pattern)})" for pattern in patterns), options)


_REFUSAL = _any(
    # English
    # An apology alone is none: support desks apologise all day.
    r"\b(?:sorry|afraid|apologi[sz]e|unfortunately)\b[^.!?]{0,60}\b(?:can't"
    r"|cannot|unable|won't|not able|not allowed|not possible)\b",
    r"\b(?:i|we)(?:'m| am| are)?\s*(?:unable|not able|not going to|not comfortable|won't|will not"
    r"|can't|cannot|must decline|have to decline|decline to|refuse to)\b",
    r"\b(?:against|violates?) (?:my|our|the) (?:guidelines|policy|policies|rules|principles)",
    r"\bas an ai\b.{0,60}\b(?:cannot|can't|not able|unable|don't)\b",
    # German, Dutch
    r"\b(?:tut mir leid, (?:aber )?(?:ich|das|dabei|damit)"
    r"|leider kann ich|ich kann (?:dir |ihnen )?(?:dabei |das |damit )?"
    r"(?:leider )?nicht|das darf ich nicht|dabei kann ich nicht)\b",
    r"\b(?:het spijt me|sorry, maar|ik kan (?:je |u )?(?:daar|hier"
    r"|dat|dit)?\s?(?:helaas )?(?:niet|mee niet)|helaas kan ik)\b",
    # French, Spanish, Portuguese, Italian
    r"\b(?:je suis desole|je ne (?:peux|puis) pas|il m'est impossible|je refuse)\b",
    r"\b(?:lo siento|no puedo (?:ayudar|hacer|proporcionar|cumplir|responder)|me es imposible)\b",
    r"\b(?:sinto muito|nao posso (?:ajudar|fazer|fornecer|responder)|infelizmente nao)\b",
    r"\b(?:mi dispiace|non posso (?:aiutar|fornir|rispondere|far)|purtroppo non|sono spiacente)",
    # Polish, Russian, Ukrainian, Turkish
    r"\b(?:przykro mi|przepraszam|niestety nie|nie moge (?:pomoc|tego|ci|udzielic))",
    r"(?:извините|к сожалению|прошу прощения|не могу (?:помочь|выполнить|предоставить|ответить|этого))",
    r"(?:вибачте|на жаль|не можу (?:допомогти|виконати|надати))",
    r"\b(?:uzgunum|maalesef|yardimci olamam|bunu yapamam)",
    # Arabic, Hebrew, Hindi
    r"(?:عذرا|آسف|لا يمكنني|لا استطيع|لا أستطيع)",
    r"(?:מצטער|סליחה|אני לא יכול|איני יכול)",
    r"(?:क्षमा करें|माफ़ करें|माफ करें|मैं .{0,30}नहीं कर सकत)",
    # Chinese, Japanese, Korean, Vietnamese, Indonesian
    r"(?:抱歉|对不起|對不起|我不能|我无法|我無法|不能提供)",
    r"(?:申し訳|すみません|できません|お手伝いでき|お答えでき)",
    r"(?:죄송|할 수 없습니다|도와드릴 수 없|제공할 수 없)",
    r"\b(?:xin loi|rat tiec|toi khong the)",
    r"\b(?:maaf|saya tidak (?:bisa|dapat))\b",
)
_FRAME = _any(
    r"\b(?:pretend|imagine|suppose|role-?play|act as|you are now"
    r"|stay in character|in character|hypothetical(?:ly)?|fiction(?:al)?"
    r"|for a (?:novel|story|movie|screenplay|game)|in a (?:story|novel|world|universe)|write a (?:story|scene|dialogue)"
    r"|my (?:late )?(?:grandmother|grandma)|for (?:educational|research|academic) purposes)\b",
    r"\bwithout (?:any )?(?:restrictions?|limits?|limitations|filters?|warnings?|disclaimers?|censorship|refusing)\b",
    r"\b(?:no (?:rules|restrictions|filters|warnings|disclaimers)"
    r"|ignore (?:your|the|all)|forget (?:your|the) (?:rules|guidelines)"
    r"|you (?:already|just) (?:told|said|explained|agreed)"
    r"|you can do anything|don't refuse|do not refuse|stop refusing)\b",
    r"\b(?:stell dir vor|tu so als|spiel(?:e)? die rolle|hypothetisch"
    r"|ohne (?:einschrankungen|filter|warnungen)|fur (?:einen|meinen) roman)\b",
    r"\b(?:doe alsof|stel je voor|hypothetisch|zonder (?:beperkingen|filters))\b",
    r"\b(?:imagine que|fais comme si|joue le role|hypothetiquement"
    r"|sans (?:restriction|filtre|limite|avertissement)s?|pour (?:un|mon) roman)\b",
    r"\b(?:imagina que|finge|actua como|hipoteticamente"
    r"|sin (?:restricciones|filtros|limites)|para (?:una|mi) novela)\b",
    r"\b(?:finja|faca de conta|sem (?:restricoes|filtros|limites)|para (?:um|meu) romance)\b",
    r"\b(?:immagina|fai finta|ipoteticamente|senza (?:restrizioni|filtri|limiti)|per (?:un|il mio) romanzo)\b",
    r"\b(?:wyobraz sobie|udawaj|hipotetycznie|bez (?:ograniczen|filtrow))\b",
    r"(?:представь|притворись|гипотетически|без (?:ограничений|фильтров|цензуры)|для (?:романа|рассказа))",
    r"\b(?:hayal et|gibi davran|kisitlama olmadan|filtresiz)\b",
    r"(?:تخيل|تظاهر|بدون قيود|افتراضيا)",
    r"(?:कल्पना क|बिना किसी (?:प्रतिबंध|रोक))",
    r"(?:假设你|假設你|假装|假裝|扮演|没有(?:任何)?限制|沒有(?:任何)?限制|想象你)",
    r"(?:ふりをして|と仮定して|制限なし|想像して|演じて)",
    r"(?:상상해|척하고|가정하고|제한 없이|역할극)",
    r"\b(?:gia vo|tuong tuong|khong gioi han)\b",
    r"\b(?:bayangkan|berpura-pura|tanpa batasan)\b",
)
_CONTINUATION = _any(
    r"\b(?:continue|complete|finish|reproduce|recite|repeat"
    r"|quote)\b.{0,60}\b(?:verbatim|word[- ]for[- ]word|exactly as|exact(?:ly)?"
    r" (?:text|words?|wording)|original (?:text|wording)|letter for letter)",
    r"\b(?:verbatim|word[- ]for[- ]word)\b.{0,60}\b(?:continue|continuation|complete|next (?:words?|sentence|lines?))",
    r"\b(?:what|which) (?:words?|sentences?|lines?|tokens?|text) (?:comes?|follows?|is|are) (?:next|after)\b.{0,80}",
    r"\b(?:log[- ]?prob(?:s|abilit(?:y|ies))?|perplexity|token probabilit(?:y|ies)"
    r"|cross[- ]entropy|likelihood of (?:this|the) (?:text|sentence|record))\b",
    r"\b(?:was|is|were|did you see|have you seen)\b.{0,80}\b(?:in|part of|among) your training (?:data|set|corpus)",
    r"\b(?:how confident|how familiar) are you\b.{0,60}\b(?:text|passage|record|sentence|training)",
    r"\b(?:wortlich|wort fur wort)\b.{0,60}\b(?:fort|weiter|wiedergeben)|\btrainingsdaten\b",
    r"\b(?:mot (?:a|pour) mot)\b|\bdonnees d'entrainement\b|\b(?:palabra por palabra)\b|\bdatos de entrenamiento\b",
    r"(?:дословно|обучающ\w+ данн)|(?:逐字|训练数据|訓練資料)|(?:一字一句|学習データ)|(?:한 글자도|학습 데이터)",
)
_ASSEMBLES = _any(
    r"\b(?:concatenate|combine|join|append|put (?:them |it |these |those )?together"
    r"|piece (?:them |it )?together|assemble|merge|stitch|part \d|piece \d|chunk \d"
    r"|first (?:part|half|piece)|second (?:part|half|piece)|next (?:part"
    r"|piece)|last (?:part|piece)|remember (?:this|that|the))\b",
    r"\b[a-z]\w{0,9}\s*(?::=|=)\s*[\"'`“][^\"'`”\n]{1,80}",
    r"\b[a-z]\w{0,9}\s*\+\s*[a-z]\w{0,9}\b",
    r"\b(?:verkette|kombiniere|setze .{0,20} zusammen|teil \d|concatene|combine[sz]?"
    r"|assemble|partie \d|concatena|combina|junta|parte \d|scal|polacz|czesc \d)\b",
    r"(?:объедини|соедини|часть \d|拼接|合并|第.部分|組み合わせ|つなげ|결합)",
)


def _found(pattern: Any, text: str) -> bool:
    return pattern.search(folding.fold(text[:_HEAD])) is not None


def refuses(text: str) -> bool:
    """A model's answer that says no, in any of twenty-two languages."""
    return _found(_REFUSAL, text)


def frames(text: str) -> bool:
    """A request that asks the model into another role, a story, or out of its limits."""
    return _found(_FRAME, text)


def asks_for_memorised(text: str) -> bool:
    """A request that makes sense of whoever wants to know what a model was trained on."""
    return _found(_CONTINUATION, text)


def assembles(text: str) -> bool:
    """A text that names parts or puts them together."""
    return _found(_ASSEMBLES, text)
