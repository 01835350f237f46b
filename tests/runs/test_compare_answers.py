"""Answers compared: prompts as people write them, a judge who is asked both ways and never guessed, a report that says what was counted."""

from __future__ import annotations

import hashlib
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.recipes import played_model
from tests.runs.road import Road
from trainyard.clock import Clock
from trainyard.errors import SeveralWrong, UserError, render
from trainyard.recipes.forms import understand
from trainyard.recipes.summaries import Values
from trainyard.runs.after import sides
from trainyard.runs.after.compareanswers import ComparisonWish, compare_answers, exact, lines
from trainyard.runs.after.judge import Judge, Verdict, judged, rate, tally, verdict_of
from trainyard.runs.after.leftmodel import ServiceSilent
from trainyard.runs.after.prompts import Prompt, load_prompts
from trainyard.runs.after.serve import key_file

# Prompts


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_prompts_are_lines_of_a_text_or_rows_whose_last_answer_is_the_reference(tmp_path: Path) -> None:
    text = load_prompts(written(tmp_path, "p.txt", "One?\n\n  Two?  \n"))
    assert [(each.place.rpartition(":")[2], each.messages[0]["content"]) for each in text] == [("1", "One?"), ("3", "Two?")]

    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    rows = [{"prompt": "p", "reference": "r", "system": "s"}, {"messages": talk, "id": 7}, "plain"]
    found = load_prompts(written(tmp_path, "p.jsonl", "".join(json.dumps(row) + "\n" for row in rows)))
    assert [(each.messages[-1]["content"], each.reference, len(each.messages)) for each in found] == [
        ("p", "r", 2),
        ("a", "b", 1),
        ("plain", None, 1),
    ]


def test_the_rows_that_a_training_held_back_are_prompts_as_the_training_would_ask_them(tmp_path: Path) -> None:
    history = [["first", "answered"]]
    rows = [
        {"instruction": "Be Ada.", "input": "Where?", "output": "There."},
        {"instruction": "Where?", "input": "", "history": history},
        {"prompt": "Where?", "completion": "There."},
        {"conversations": [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": "There."}]},
    ]
    found = load_prompts(written(tmp_path, "rows.eval.jsonl", "".join(json.dumps(row) + "\n" for row in rows)))
    assert [(each.messages[-1], each.reference) for each in found] == [
        ({"role": "user", "content": "Be Ada.\n\nWhere?"}, "There."),
        ({"role": "user", "content": "Where?"}, None),
        ({"role": "user", "content": "Where?"}, "There."),
        ({"role": "user", "content": "Where?"}, "There."),
    ]
    assert [message["content"] for message in found[1].messages] == ["first", "answered", "Where?"]
    for row, prompt in ((rows[0], found[0]), (rows[3], found[3])):
        assert list(understand(row).messages)[:-1] == prompt.messages


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.jsonl", '{"prompt": "a"}\n{"prompt": \n', "p.jsonl:2:12: not valid JSON"),
        ("p.jsonl", '{"question": "a"}\n', "instruction; this one has question"),
        ("p.jsonl", '{"instruction": "a", "output": "b", "response": "c"}\n', "p.jsonl:1:1: output and response are both given"),
        ("p.jsonl", '{"instruction": "a", "input": 7}\n', "p.jsonl:1:1: 'input' must be text, not a number"),
        ("p.jsonl", '{"prompt": ""}\n', "p.jsonl:1:1: prompt must be text"),
        ("p.jsonl", '{"messages": [{"role": "tool", "content": "a"}]}\n', "p.jsonl:1:1: messages[0].role must be system, user, assistant"),
        ("p.jsonl", '{"messages": [{"role": "system", "content": "a"}]}\n', "there is no message of the user to be answered"),
        ("p.jsonl", "7\n", "a prompt is a text or an object with prompt, messages or instruction"),
        ("p.jsonl", "", "p.jsonl:1:1: no row in this file"),
        ("p.txt", "\n\n", "holds no prompt"),
        ("p.txt", "a\n\0\n", "p.txt:2:1: a NUL byte"),
        ("p.pdf", "x", "prompts are a text with one in each line, or rows"),
    ],
)  # fmt: skip
def test_a_flawed_prompt_is_told_with_its_place(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        load_prompts(written(tmp_path, name, text))
    assert said in render(error.value)


def test_all_flawed_prompts_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SeveralWrong, match="a row has one of prompt") as error:
        load_prompts(written(tmp_path, "p.jsonl", '{"a": 1}\n{"b": 1}\n{"prompt": "x"}\n'))
    assert "p.jsonl:2:1" in str(error.value.hint)


# The judge


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        (["A", "B"], "win"), (["B", "A"], "loss"), (["tie", "tie"], "tie"), (["A", "tie"], "win"), (["tie", "A"], "loss"),
        (["A", "A"], "split"), (["B", "B"], "split"), (["A", None], "unclear"), ([None, None], "unclear"),
    ],
)  # fmt: skip
def test_a_verdict_needs_both_orders(said: list[str | None], verdict: str) -> None:
    assert verdict_of(said) == verdict


def test_rates_are_of_clear_verdicts_with_the_interval_of_wilson() -> None:
    many: dict[Verdict, int] = {"win": 8, "loss": 2, "split": 5, "tie": 5, "unclear": 3}
    counts = tally([verdict for verdict, times in many.items() for _ in range(times)])

    assert (counts["clear"], counts["unclear"], counts["split"]) == (20, 3, 5)
    assert counts["rates"]["win"] == {"share": 0.4, "from": 0.2188, "to": 0.6134}  # R: prop.test(8, 20, correct=FALSE)
    assert counts["rates"]["tie"]["share"] == 0.5
    assert rate(0, 10) == {"share": 0.0, "from": 0.0, "to": 0.2775} and rate(0, 0) is None


class Bench(http.server.BaseHTTPRequestHandler):
    """A judge on loopback that answers by what its server is told."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.headers.get("Authorization"), self.path, body))  # type: ignore[attr-defined]
        status, text = self.server.rule(json.loads(body["messages"][1]["content"]))  # type: ignore[attr-defined]
        data = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


class BenchServer(http.server.ThreadingHTTPServer):
    rule: Callable[[Mapping[str, Any]], tuple[int, str]]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Bench)
        self.asked: list[tuple[str | None, str, dict[str, Any]]] = []

    @property
    def judge(self) -> Judge:
        return Judge(f"http://127.0.0.1:{self.server_port}/v1/", "m", "JUDGE_KEY")


@pytest.fixture
def bench() -> Iterator[BenchServer]:
    with BenchServer() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


ENV = {"JUDGE_KEY": "secret-of-the-judge"}
PAIR = (Prompt("p:1", [{"role": "user", "content": "q"}], "good"), "good", "bad")


def by_text(shown: Mapping[str, Any]) -> tuple[int, str]:
    return 200, json.dumps({"better": "A" if shown["A"] == shown["a good answer"] else "B"})


def test_each_pair_is_shown_both_ways_and_what_is_no_verdict_is_not_guessed(bench: BenchServer) -> None:
    bench.rule = by_text
    assert judged(bench.judge, ENV, [PAIR]) == [("win", ["A", "B"])]
    assert [(key, path, body["temperature"]) for key, path, body in bench.asked] == [
        ("Bearer secret-of-the-judge", "/v1/chat/completions", 0)
    ] * 2

    for text, verdict in (
        ("A is better", "unclear"),
        ('{"better": "a"}', "unclear"),
        ('```json\n{"better": "tie"}\n```', "tie"),
        ("[]", "unclear"),
        ('{"better": ["A"]}', "unclear"),
        ('{"better": {"A": 1}}', "unclear"),
        ("[" * 100_000, "unclear"),
    ):
        bench.rule = lambda shown, text=text: (200, text)  # type: ignore[misc]
        assert judged(bench.judge, ENV, [PAIR])[0][0] == verdict


def test_a_judge_that_is_busy_is_asked_again_and_one_that_refuses_is_not(bench: BenchServer) -> None:
    pauses: list[float] = []
    clock = Clock(pause=pauses.append)
    bench.rule = lambda shown: (429, "") if len(bench.asked) < 3 else by_text(shown)
    assert judged(bench.judge, ENV, [PAIR], clock)[0][0] == "win" and pauses == [1.0, 2.0]

    bench.rule = lambda shown: (503, "")
    with pytest.raises(ServiceSilent, match="HTTP 503") as silent:
        judged(bench.judge, ENV, [PAIR], clock)
    assert silent.value.exit_code == 69
    bench.rule = lambda shown: (401, "")
    with pytest.raises(UserError, match="the judge refuses"):
        judged(bench.judge, ENV, [PAIR], clock)


def test_a_judge_that_says_its_key_back_has_it_printed_nowhere(bench: BenchServer) -> None:
    bench.rule = lambda shown: (401, f"{'Incorrect API key ' * 14}{ENV['JUDGE_KEY']}")  # cut within the key, were it not hidden before
    with pytest.raises(UserError, match=r"the judge refuses") as refused:
        judged(bench.judge, ENV, [PAIR])
    assert "***" in render(refused.value) and "secret-of" not in render(refused.value)


def test_a_key_goes_over_the_net_by_https_alone_and_must_be_there() -> None:
    with pytest.raises(UserError, match="a key is sent by https alone"):
        Judge("http://judge.example/v1", "m", "JUDGE_KEY").key(ENV)
    with pytest.raises(UserError, match="the variable OTHER is not set"):
        Judge("https://judge.example/v1", "m", "OTHER").key(ENV)
    assert Judge("http://judge.example/v1", "m", None).key(ENV) is None
    for wrong in ("two words", "caf\u00e9-secret", "line\nbreak"):
        with pytest.raises(UserError, match="holds is no key") as refused:
            Judge("https://judge.example/v1", "m", "JUDGE_KEY").key({"JUDGE_KEY": wrong})
        assert wrong not in render(refused.value)


# The whole


@pytest.fixture
def road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Road]:
    made = Road(tmp_path, monkeypatch)
    monkeypatch.chdir(made.context.places.root)
    made.run("true", name="a")
    folder = made.context.folder("a")
    values: Values = {"base_model": "a/b", "method": "lora"}
    folder.save(replace(folder.load(), recipe="lora", values=values))
    yield made
    made.lose_pod()


def answers(*texts: str) -> list[dict[str, Any]]:
    return [{"text": text, "finish": "stop", "prompt_tokens": 3, "tokens": 10, "first": 0.1, "seconds": 0.5} for text in texts]


def test_the_report_says_what_each_answered_how_fast_and_who_was_better(
    road: Road, bench: BenchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.rule = by_text
    replies = {"model": answers("Good  one", "<i>x</i>"), "base": answers("bad", "y")}
    monkeypatch.setattr(sides, "answers_of", lambda context, model, folder, prompts, tokens, of="model": replies[of])
    monkeypatch.setattr(sides, "fetched", lambda *_: tmp_path)
    rows = [{"prompt": "<b>q</b>", "reference": "good one"}, {"prompt": "r", "reference": "z"}]
    prompts = written(tmp_path, "p.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    context = replace(road.context, env={**road.context.env, **ENV})

    folder, report = compare_answers(context, "a", None, ComparisonWish(prompts, judge=bench.judge))

    assert folder == road.context.places.root / "out" / "compared" / "ann-a-1-base"
    figures = report["sides"]
    assert list(figures) == ["ann/a/1", "base a/b"] and figures["ann/a/1"]["tokens_per_second"] == 20.0
    assert figures["ann/a/1"]["scores"]["exact"] == 0.5 and figures["base a/b"]["scores"]["exact"] == 0.0
    assert [row["verdict"] for row in report["rows"]] == ["split", "split"], "the judge of this test knows the reference letter by letter"
    page, kept = (folder / "report.html").read_text(), json.loads((folder / "report.json").read_text())
    assert kept == json.loads(json.dumps(report)) and "secret" not in page + json.dumps(kept)
    assert "&lt;b&gt;q&lt;/b&gt;" in page and "<b>" not in page and "&lt;i&gt;x" in page and "95 % interval" in page
    said = "\n".join(lines(folder, report))
    assert "win 0% (0% to 66%)" in said and "2 turned with the order" in said

    again = (folder / "report.json").read_bytes()
    compare_answers(context, "a", None, ComparisonWish(prompts, judge=bench.judge))
    assert (folder / "report.json").read_bytes() == again


def test_what_is_wrong_is_told_before_a_model_is_loaded(road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides, "fetched", lambda *_: tmp_path)
    prompts = written(tmp_path, "p.txt", "q\n")
    with pytest.raises(UserError, match="--judge judges two answers"):
        compare_answers(road.context, "a", None, ComparisonWish(prompts, against=None, judge=Judge("http://127.0.0.1:1", "m", None)))
    folder = road.context.folder("a")
    folder.save(replace(folder.load(), values={"base_model": "tiny-qwen3-moe"}))
    with pytest.raises(UserError, match="the base of ann/a/1 was made for its training and is not in its result"):
        compare_answers(road.context, "a", None, ComparisonWish(prompts))
    folder.save(replace(folder.load(), recipe="command"))
    with pytest.raises(UserError, match="only what recipes lora and merge leave can be compared"):
        compare_answers(road.context, "a", None, ComparisonWish(prompts))


def test_exact_is_blind_to_case_blanks_and_encoding() -> None:
    assert exact("Caf\N{LATIN SMALL LETTER E WITH ACUTE}  au lait", "cafe\N{COMBINING ACUTE ACCENT} AU lait\n") == 1.0
    assert exact("a", "b") == 0.0


def test_a_run_that_serves_is_asked_over_its_api_and_reckoned_at_its_pods_price(road: Road, tmp_path: Path) -> None:
    key = "a-key-of-some-length"
    with subprocess.Popen([sys.executable, played_model.__file__, key], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        digest = hashlib.sha256(key.encode()).hexdigest()
        values: Values = {"port": int(process.stdout.readline()), "key_sha256": digest, "model_name": "ann/a"}
        folder = road.context.folder("a")
        record = folder.load()
        pod = replace(record.pod, price_per_hour=36.0)
        folder.save(replace(record, recipe="serve", phase="started", cloud="local", values=values, pod=pod))
        prompts = written(tmp_path, "p.txt", "one two three\n")
        with pytest.raises(UserError, match="the API key of ann/a is not kept here"):
            compare_answers(road.context, "a", None, ComparisonWish(prompts, against=None))
        path = key_file(road.context, digest)
        path.parent.mkdir()
        path.write_text(key)
        with pytest.raises(UserError, match="serves one model, not its base"):
            compare_answers(road.context, "a", None, ComparisonWish(prompts))

        with pytest.raises(UserError, match="the model failed in the middle of an answer: the model failed: RuntimeError"):
            compare_answers(road.context, "a", None, ComparisonWish(written(tmp_path, "f.txt", "melt\n"), against=None))
        _, report = compare_answers(road.context, "a", None, ComparisonWish(prompts, against=None, tokens=2))
        process.kill()

    [row] = report["rows"]
    said = row["answers"]["ann/a/1"]
    assert (said["text"], said["finish"], said["tokens"], said["prompt_tokens"]) == ("one two", "length", 2, 3)
    assert report["sides"]["ann/a/1"]["dollars"] == pytest.approx(said["seconds"] * 0.01, abs=1e-6)


def test_an_answer_without_a_token_is_refused_before_anything_is_fetched(road: Road, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--tokens 0: an answer has at least one"):
        compare_answers(road.context, "a", None, ComparisonWish(written(tmp_path, "p.txt", "q"), tokens=0))
