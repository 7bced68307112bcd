/**
 * The example `simulate`: which policies it replays, what it prints, and its page.
 *
 * @module
 */

import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import type { Line } from "@firn/train/report";
import { main } from "../../examples/simulate.ts";
import { inFolder } from "../data/files.ts";
import { startLine, stepLine, textOf } from "../report/run_lines.ts";
import { call, example } from "./process.ts";

const COMPONENTS: Line = {
  kind: "components",
  components: [0, 1, 2, 3].map((layer) => ({
    path: `layers.${layer}.up`,
    layer,
    parameters: [`layers.${layer}.up.weight`],
    kind: "linear",
    size: 2 ** 20,
    cost: { forward: 1e9, dX: 1e9, dW: 1e9, depth: layer },
  })),
  run: {
    steps: 40,
    lookEvery: 10,
    optimizer: { name: "adamW", moments: [{ name: "m", meaning: "" }, { name: "v", meaning: "" }] },
  },
};

/** A run of 40 steps that measured the norms of gradients, larger from layer to layer. */
const LOG: readonly Line[] = [
  startLine(),
  COMPONENTS,
  ...Array.from({ length: 40 }, (_, i) =>
    stepLine(i + 1, {
      readings: {
        gradNorm: Object.fromEntries([0, 1, 2, 3].map((layer) => [`layers.${layer}.up`, layer + 1])),
      },
    })),
];

Deno.test("simulate prints what each policy would have saved, says what the log lacks, and writes a page", async () => {
  await inFolder(async (folder) => {
    await Deno.mkdir(`${folder}/run`);
    await Deno.writeTextFile(`${folder}/run/metrics.jsonl`, textOf(LOG));
    const out = `${folder}/pages/page.html`;
    const args = [`${folder}/run`, "--policy", "gradES,bottomFreeze,snr,earlyStopping,prefix", "--out", out];
    const { code, stdout, stderr } = await example("simulate", args, folder);
    assertEquals([code, stderr], [0, ""]);
    const rows = stdout.split("\n");
    // Half of the layers, those of the smaller gradients, freeze at the look after step 20: a step of 11 GFLOP becomes one of 7.
    assertMatch(rows[1], /^gradES +2 \(50 %\) +30 +40 +-9\.1 % +0\.7 \(-9\.1 %\) +-16 MiB +100 %$/);
    assertMatch(rows[2], /^bottomFreeze +2 \(50 %\) +10 +40 +-27\.3 % +0\.6 \(-27\.3 %\) +-16 MiB +100 %$/);
    assertMatch(rows[3], /^snr +the log has no firstMoment, secondMoment, benefit$/);
    assertMatch(rows[5], /^prefix +0 \(0 %\) +– +40 +0\.0 % +0\.8 \(0\.0 %\) +0 MiB +100 %$/);
    assertMatch(rows[4], /^earlyStopping +Cannot stop early in step 1 as training has no validation data/);
    assertStringIncludes(stdout, "\nsignals     train with --record all, ");
    const page = await Deno.readTextFile(out);
    assertStringIncludes(page, "<h1>3 of 5 policies, simulated</h1>");
    assertStringIncludes(page, "bottomFreeze(0.5)");
    // Times are compared with those of a run at the same pace.
    assertStringIncludes(page, "compare them with “no freeze”");
    assertMatch(page, /no freeze<\/span>/);
    assertEquals(page.includes("noisy("), false);
    assertEquals(await call(main, args), null, "its own page may be replaced");
  });
});

Deno.test("simulate refuses what is no run, what decides nothing, and to write over a file of another kind", async () => {
  await inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/metrics.jsonl`, textOf(LOG));
    await Deno.writeTextFile(`${folder}/notes.html`, "mine");
    const cases: readonly (readonly [readonly string[], string])[] = [
      [[], "name the output folder of a run, before any flag"],
      [["--policy", "snr"], "name the output folder of a run, before any flag"],
      [[`${folder}/none`], `Cannot simulate "${folder}/none" as it must be the output folder of a run`],
      [[folder, "--policy", "none", "--out", `${folder}/a.html`], 'Cannot simulate "none"'],
      [[folder, "--policy", "earlyStopping", "--out", `${folder}/a.html`], "Cannot stop early in step 1"],
      [[folder, "--policy", "gradES,", "--out", `${folder}/a.html`], "--policy must be one of gradES"],
      [[folder, "--out", `${folder}/notes.html`], "it is something else; choose another --out"],
    ];
    for (const [args, message] of cases) assertStringIncludes(`${await call(main, args)}`, message);
    assertEquals(await Deno.readTextFile(`${folder}/notes.html`), "mine");
  });
});
