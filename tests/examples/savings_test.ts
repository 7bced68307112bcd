/**
 * What a run says of freezing at its end.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { freezeSavings } from "@firn/train/report";
import { recommendation, VERDICTS } from "../../examples/recommend.ts";
import { freezingRows } from "../../examples/savings.ts";
import { COST, freezeLine, startLine, stepLines } from "../report/run_lines.ts";

const slow = { stepMs: 100, flops: 1e6 }, fast = { stepMs: 50, flops: 6e5 };

/** 40 planned steps: 20 of 100 ms after 5 that compile, a freeze, 5 that compile again, and an end after 40 or sooner. */
const LOG = (last: number) => [
  startLine(),
  ...stepLines(1, 5, { ...slow, stepMs: 300 }),
  ...stepLines(6, 20, slow),
  { ...freezeLine(20), after: { ...COST, flops: 6e5 } },
  ...stepLines(21, 25, { ...fast, stepMs: 90 }),
  ...stepLines(26, last, fast),
];

Deno.test("a run says what was forecast without freezing, what came, and what changes of the frozen set cost", () => {
  assertEquals(freezingRows(LOG(40), { policy: "gradES" }), [
    ["Forecast", "40 steps without a freeze: 40 MFLOP, 5.0 s"],
    ["Real", "40 steps: 32 MFLOP (-20 %), 4.2 s (-16 %), of these 0.2 s for a change of the frozen set"],
  ]);
  const [, [, ended]] = freezingRows(LOG(30), { policy: "gradES" });
  assertEquals(
    ended,
    "30 steps: 26 MFLOP (-35 %), 3.7 s (-26 %), of these 0.2 s for a change of the frozen set",
  );
});

Deno.test("a run that froze nothing says so, one without a policy nothing", () => {
  const log = LOG(40).slice(0, 21), [, [, real]] = freezingRows(log, { policy: "snr" });
  assertEquals(real, "20 steps: 20 MFLOP (-50 %), 3.0 s (-40 %), nothing froze");
  assertEquals(freezingRows(log, { policy: "none" }), []);
  assertEquals(freezingRows([startLine()], { policy: "snr" }), []);
});

Deno.test("no seconds are forecast where the first freeze came before steps were timed", () => {
  const log = [startLine(), ...stepLines(1, 5, slow), freezeLine(5), ...stepLines(6, 9, fast)];
  assertEquals(freezeSavings(log)?.seconds, null);
  assertEquals(freezingRows(log, { policy: "bottomFreeze" }), [
    ["Forecast", "40 steps without a freeze: 40 MFLOP"],
    ["Real", "9 steps: 7.4 MFLOP (-81 %), with a change of the frozen set"],
  ]);
});

Deno.test("no seconds are told for a change that has no later look to compare with", () => {
  const log = LOG(25), savings = freezeSavings(log)!;
  assertEquals([savings.changes, savings.changeSeconds], [1, null]);
  assertEquals(
    freezingRows(log, { policy: "gradES" })[1][1],
    "25 steps: 23 MFLOP (-43 %), 3.5 s (-31 %), with a change of the frozen set",
  );
  // A change after which training ends takes no time.
  assertEquals(freezeSavings(log.slice(0, -5))!.changeSeconds, 0);
});

Deno.test("what is recommended is what the study's conclusions say, word for word", () => {
  const study = Deno.readTextFileSync(new URL("../bench/STUDY.md", import.meta.url));
  const conclusions = study.slice(
    study.indexOf("<!-- conclusions -->"),
    study.indexOf("<!-- /conclusions -->"),
  )
    .replace(/\s+/g, " ");
  for (const [trains, verdicts] of Object.entries(VERDICTS)) {
    for (const [predicts, verdict] of Object.entries(verdicts)) {
      assert(verdict === null || conclusions.includes(verdict.because), `${trains} ${predicts}`);
    }
  }
});

Deno.test("a recommendation names its source, and says where there is none", () => {
  const kind = { trains: "lora", predicts: "causal" } as const, none = { causal: null, classify: null };
  assertEquals(
    recommendation(kind, { full: none, lora: none }),
    "no policy yet for LoRA on the next token: the study, tests/bench/STUDY.md, has no verdict",
  );
  const verdict = { policy: "auto", because: "It is ahead." };
  assertEquals(
    recommendation(kind, { full: none, lora: { ...none, causal: verdict } }),
    "--policy auto for LoRA on the next token: It is ahead. (tests/bench/STUDY.md)",
  );
  assertEquals(freezingRows(LOG(40), { policy: "gradES", kind }).at(-1)?.[0], "Recommended");
});
