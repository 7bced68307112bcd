"""Asks `serve` by PyPI's `openai`: python client.py http://127.0.0.1:PORT/v1. See client.sh, which starts both."""

import asyncio
import math
import sys

import openai

BASE = sys.argv[1]
client = openai.OpenAI(base_url=BASE, api_key="any", max_retries=0)
PROMPT = "The state of the"
ASKED = {"model": "sotu", "temperature": 0, "max_tokens": 6}
CHAT = {**ASKED, "messages": [{"role": "user", "content": PROMPT}]}


def models():
    """The model has a name."""
    assert [model.id for model in client.models.list()] == ["sotu"]
    assert client.models.retrieve("sotu").id == "sotu"


def completions():
    """A completion has its text, why it ended, and usage; a stop ends it before the stop."""
    answer = client.completions.create(prompt=PROMPT, **ASKED)
    [choice] = answer.choices
    assert choice.text and choice.finish_reason == "length"
    assert answer.usage.completion_tokens == 6
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 6
    stop = choice.text[4:8]
    stopped = client.completions.create(prompt=PROMPT, stop=stop, **ASKED).choices[0]
    assert stopped.finish_reason == "stop"
    assert stopped.text == choice.text[: choice.text.index(stop)]
    several = client.completions.create(prompt=[PROMPT, "We"], **ASKED)
    assert [one.index for one in several.choices] == [0, 1]
    assert several.choices[0].text == choice.text


def chats():
    """A chat has one text, whole and streamed by both ways of the client, with usage at the end."""
    answer = client.chat.completions.create(**CHAT)
    message = answer.choices[0].message
    assert message.role == "assistant" and message.content
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(client.chat.completions.create(**CHAT, **options))
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == message.content and len(pieces) > 2
    assert chunks[-1].usage == answer.usage
    with client.chat.completions.stream(**CHAT) as events:
        text = "".join(event.delta for event in events if event.type == "content.delta")
    assert text == message.content
    pieces = client.completions.create(prompt=PROMPT, stream=True, **ASKED)
    whole = client.completions.create(prompt=PROMPT, **ASKED)
    assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text


def draws():
    """The same seed draws the same text; answers of one request differ."""
    asked = {**CHAT, "temperature": 1, "max_tokens": 12, "n": 2, "seed": 7}
    texts = [[choice.message.content for choice in client.chat.completions.create(**asked).choices] for _ in "12"]
    assert texts[0] == texts[1]
    assert texts[0][0] != texts[0][1]


def logprobs():
    """Log probabilities are those of the tokens that make the text."""
    choice = client.chat.completions.create(logprobs=True, top_logprobs=2, **CHAT).choices[0]
    tokens = choice.logprobs.content
    assert "".join(token.token for token in tokens) == choice.message.content
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in tokens)
    # Without a temperature, each is the likeliest.
    assert all(math.isclose(token.logprob, token.top_logprobs[0].logprob) for token in tokens)
    choice = client.completions.create(prompt=PROMPT, logprobs=2, **ASKED).choices[0]
    assert "".join(choice.logprobs.tokens) == choice.text


def errors():
    """What cannot be answered is an exception of the client's own kind, with the field that is wrong."""
    cases = [
        (openai.BadRequestError, "temperature", {"temperature": -1}),
        (openai.BadRequestError, "n", {"n": 100}),
        (openai.BadRequestError, "response_format", {"response_format": {"type": "json_object"}}),
        (openai.BadRequestError, "tool_choice", {"tool_choice": "required"}),
    ]
    for kind, param, fields in cases:
        try:
            client.chat.completions.create(**{**CHAT, **fields})
        except kind as error:
            assert error.param == param, error
        else:
            raise AssertionError(f"{fields} was answered")
    try:
        client.models.retrieve("another")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found"
    else:
        raise AssertionError("a model that is not there was found")


async def together():
    """Requests of several tasks have the texts that each has alone."""
    prompts = [PROMPT, "We", "The navy of the United States", "I"]
    alone = [client.completions.create(prompt=prompt, **ASKED).choices[0].text for prompt in prompts]
    async with openai.AsyncOpenAI(base_url=BASE, api_key="any", max_retries=0) as several:
        answers = await asyncio.gather(*(several.completions.create(prompt=prompt, **ASKED) for prompt in prompts))
    assert [answer.choices[0].text for answer in answers] == alone


CHECKS = [models, completions, chats, draws, logprobs, errors]
for check in CHECKS:
    check()
asyncio.run(together())
print(f"openai {openai.__version__}: {len(CHECKS) + 1} checks passed")
