/**
 * What a run says of freezing at its end.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import type { CachedPrefix, Component, FreezePolicy } from "@firn/train";
import { freezeSavings } from "@firn/train/report";
import { recommendation, VERDICTS } from "../../examples/recommend.ts";
import { isModule } from "../../examples/policies.ts";
import { freezingRows, frozenRows } from "../../examples/savings.ts";
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
    ["Forecast", "40 steps without a freeze: 40 MFLOP by all kernels, 5.0 s"],
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
    ["Forecast", "40 steps without a freeze: 40 MFLOP by all kernels"],
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

Deno.test("what is recommended is what the study says, word for word, and policies are names of flags", () => {
  const study = Deno.readTextFileSync(new URL("../bench/STUDY.md", import.meta.url));
  const said = study.replace(/[*`]/g, "").replace(/\s+/g, " ");
  for (const verdict of [...Object.values(VERDICTS.full), ...Object.values(VERDICTS.lora)].flat()) {
    for (const sentence of [verdict.because, verdict.but ?? ""]) assert(said.includes(sentence), sentence);
    assertEquals(isModule(verdict.policy), false, verdict.policy);
  }
});

Deno.test("what is recommended has the rate that its steps need, and the clock where a policy won without stalls alone", () => {
  const of = (predicts: "causal" | "classify") =>
    recommendation({ trains: "full", predicts, steps: 120, epochs: 3 });
  assertMatch(of("causal"), /^--policy none --steps 60 and 3 times the --lr, for full fine-tuning /);
  assertMatch(
    of("classify"),
    /freezing the lower half loses less\. By the clock, nothing that freezes beats training/,
  );
});

Deno.test("a recommendation names its source, and says where there is none", () => {
  const kind = { trains: "lora", predicts: "causal", steps: 120, epochs: 1 } as const;
  const none = { causal: [], classify: [] };
  assertEquals(
    recommendation(kind, { full: none, lora: none }),
    "no policy yet for LoRA on the next token: the study, tests/bench/STUDY.md, has no verdict. " +
      "What one has to beat is a shorter run: --policy none --steps 90",
  );
  const again = { epochs: 3, policy: "bottomFreeze", flags: "--cache-prefix", because: "It is ahead." };
  const shorter = { policy: "none", steps: 0.75, because: "Nothing is ahead." };
  const verdicts = { full: none, lora: { ...none, causal: [again, shorter] } };
  const short =
    "--policy none --steps 90, for LoRA on the next token: Nothing is ahead. (tests/bench/STUDY.md)";
  assertEquals(recommendation(kind, verdicts), short);
  assertEquals(recommendation({ ...kind, epochs: null }, verdicts), short);
  assertEquals(
    recommendation({ ...kind, epochs: 3 }, verdicts),
    "--policy bottomFreeze --cache-prefix, for LoRA on the next token in 3 epochs or more: It is ahead. " +
      "(tests/bench/STUDY.md)",
  );
  assertEquals(
    recommendation(kind, { full: none, lora: { ...none, causal: [{ ...again, epochs: 5 }, again] } }),
    "no policy yet for LoRA on the next token in fewer than 3 epochs: the study, tests/bench/STUDY.md, has no " +
      "verdict. What one has to beat is a shorter run: --policy none --steps 90",
  );
  assertEquals(freezingRows(LOG(40), { policy: "gradES", kind }).at(-1)?.[0], "Recommended");
});

Deno.test("a run says what its cache of a frozen prefix held, or why it held nothing", () => {
  const held = { samples: 20, room: 30, bytes: 2 ** 20, reason: null };
  const row = (prefix: CachedPrefix | null) => freezingRows([], { policy: "none", prefix });
  assertEquals(row(null), []);
  assertEquals(row(held), [["Cached prefix", "20 samples, 1 MiB"]]);
  assertEquals(row({ ...held, room: 20 }), [["Cached prefix", "20 samples, 1 MiB, no room for more"]]);
  assertEquals(row({ ...held, samples: 0, bytes: 0 }), [[
    "Cached prefix",
    "nothing: no step came after the bottom froze, or froze otherwise",
  ]]);
  assertEquals(row({ samples: 0, room: 0, bytes: 0, reason: "why" }), [["Cached prefix", "nothing: why"]]);
  const rows = freezingRows(LOG(40), { policy: "gradES", prefix: held });
  assertEquals(rows.map(([name]) => name), ["Forecast", "Real", "Cached prefix"]);

  const training = { prefix: () => held, components: () => [1, 2, 3] as unknown as Component[] };
  const kind = { trains: "full", predicts: "classify", steps: 8, epochs: 2 } as const;
  const policy = { name: "p" } as FreezePolicy;
  const told = frozenRows(training, { frozen: ["a"], policy, kind });
  assertEquals(told.map(([name]) => name), ["Frozen", "Cached prefix", "Recommended"]);
  assertEquals(told[0][1], "1 of 3 components");
  assertEquals(frozenRows(training, { frozen: [], policy: undefined, kind }).length, 1);
});
