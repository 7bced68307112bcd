/**
 * What a resumed run takes from its checkpoint, and which policies it runs.
 *
 * @module
 */

import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  DataError,
  defineTraining,
  InputError,
  type Json,
  openGpu,
  sgd,
  sum,
  type Tensor,
  tensor,
} from "@firn/train";
import { saveCheckpoint } from "@firn/train/checkpoint";
import { text, texts, UsageError, whole } from "../../examples/flags.ts";
import { fileUrl, policyOf } from "../../examples/policies.ts";
import { extraOf, readRun, RUN_FLAGS, savedFlags } from "../../examples/saved_flags.ts";
import { rateOf } from "../../examples/model_card.ts";
import { inFolder } from "../data/files.ts";

const TABLE = {
  steps: whole("steps", 120),
  policy: text("NAME", "policy", "gradES"),
  out: text("D", "out", null),
};

Deno.test("savedFlags refuses values that no command line could give", () => {
  const read = (extra: Json) => savedFlags(extra, { command: "finetune", table: TABLE, path: "c" }).flags;
  assertEquals(read({ steps: 3, command: "finetune" }), { steps: 3, policy: "gradES", out: null });
  const bad: Json[] = [
    null,
    "x",
    [],
    { steps: "3" },
    { steps: -1 },
    { steps: 1.5 },
    { steps: null },
    { steps: [] },
    { policy: 3 },
    { policy: "" },
    { toString: 1 },
    { command: "digits" },
    { policyHash: "x" },
    { ranks: 0 },
    { ranks: "2" },
  ];
  for (const extra of bad) assertThrows(() => read(extra), DataError, "Cannot resume", JSON.stringify(extra));
});

Deno.test("a run goes on with as many ranks as it had, or not at all", async () => {
  await inFolder(async (folder) => {
    await using gpu = await openGpu({ tune: false });
    const table = { ...TABLE, ...RUN_FLAGS },
      command = { command: "finetune", table, rate: "steps", beside: [] } as const;
    const state = await defineTraining(gpu, ({ w }: { w: Tensor }) => sum(w), {
      optimizer: sgd({ learningRate: 1 }),
      steps: 1,
    }).init({ w: tensor([1]) });
    const flags = { steps: 3, policy: "gradES", out: folder };
    for (const ranks of [1, 2]) {
      const extra = extraOf("finetune", { flags, policyHash: null, ranks });
      await saveCheckpoint(gpu, state, { path: `${folder}/checkpoint.safetensors`, extra });
      const resumed = readRun(["--resume", folder], command);
      if (ranks === 1) assertEquals((await resumed).values.steps, 3);
      else {await assertRejects(
          () => resumed,
          InputError,
          "as many ranks as it had, 2: there are 1; start it by ./firn ranks 2",
        );}
    }
  });
});

Deno.test("savedFlags reads lists of a flag that may be given several times, and one text of earlier runs", () => {
  const table = { data: texts("F", "files", ["a"]) };
  const read = (data: Json) => savedFlags({ data }, { command: "finetune", table, path: "c" }).flags.data;
  assertEquals(read(["b", "c"]), ["b", "c"]);
  assertEquals(read("b"), ["b"]);
  for (const bad of [[1], [""], [["b"]], 3, {}]) assertThrows(() => read(bad), DataError, "Cannot resume");
});

Deno.test("policyOf takes no address, runs a module of another hash not at all, and paths with # % ?", async () => {
  for (
    const name of [
      "data:text/javascript,x//.ts",
      "https://a.b/p.ts",
      "npm:p.ts",
      "jsr:@a/p.ts",
      "file:///p.ts",
    ]
  ) {
    await assertRejects(() => policyOf(name, { tau: 1 }), UsageError, "no address");
  }
  await inFolder(async (folder) => {
    const path = `${folder}/a #1 50%25?.ts`;
    await Deno.writeTextFile(
      path,
      `export default { name: "own", signals: [], init: () => 0, next: (s) => s, frozen: () => [] };`,
    );
    const { policy, hash } = await policyOf(path, { tau: 1 });
    assertEquals([policy!.name, hash!.length, decodeURIComponent(fileUrl(path).pathname)], ["own", 64, path]);
    assertEquals((await policyOf(path, { tau: 1, hash })).policy!.name, "own");
    const marker = `${folder}/other.ts`;
    await Deno.writeTextFile(marker, `throw new Error("it ran")`);
    await assertRejects(() => policyOf(marker, { tau: 1, hash }), InputError, "SHA-256");
  });
});

Deno.test("rateOf takes the rate of the command line, of the card, or that of pretrained models", async () => {
  assertEquals((await rateOf("examples/models/sotu", 1)).rate, 1);
  assertEquals((await rateOf("examples/models/sotu", null)).rate, 2e-3);
  await inFolder(async (folder) => {
    assertEquals((await rateOf(folder, null)).rate, 5e-5);
    await Deno.writeTextFile(`${folder}/README.md`, "---\nlearning_rate: 1e9\n---\n");
    await assertRejects(() => rateOf(folder, null), DataError, "learning_rate");
    await Deno.remove(`${folder}/README.md`);
    await Deno.symlink("/dev/zero", `${folder}/README.md`);
    await assertRejects(() => rateOf(folder, null), DataError, "README.md");
  });
});
