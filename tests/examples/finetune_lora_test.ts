/**
 * Adapters on the command line: `finetune --lora`, `--adapter`, and `merge`.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { logits, openGpu, read, tensor } from "@firn/train";
import { loadAdapter, loadModel } from "@firn/train/hub";
import { main as finetune } from "../../examples/finetune.ts";
import { UsageError } from "../../examples/flags.ts";
import { targetsOf } from "../../examples/lora_flags.ts";
import { main as merge } from "../../examples/merge.ts";
import { inFolder } from "../data/files.ts";
import { makeModel, TEXT } from "../torture/small_model.ts";
import { call } from "./process.ts";

const SHORT = [
  "--steps",
  "4",
  "--batch",
  "2",
  "--length",
  "8",
  "--eval-tokens",
  "16",
  "--no-sample",
  "--no-tune",
];

const train = async (args: readonly string[]): Promise<void> => {
  const error = await call(finetune, args);
  if (error !== null) throw error;
};

Deno.test("finetune --lora writes an adapter, --adapter goes on with it, and merge makes a model of both", async () => {
  await inFolder(async (folder) => {
    const base = `${folder}/base`,
      [one, two] = [`${folder}/one`, `${folder}/two`],
      merged = `${folder}/merged`;
    await makeModel(base);
    await Deno.writeTextFile(`${folder}/text.txt`, TEXT);
    const data = ["--model", base, "--data", `${folder}/text.txt`, "--policy", "none", ...SHORT];
    const kind = [
      "--lora",
      "2",
      "--lora-alpha",
      "6",
      "--targets",
      "q_proj,*.mlp.up*",
      "--dora",
      "--lora-dropout",
      "0.2",
    ];
    await train([...data, ...kind, "--lora-plus", "4", "--out", one]);
    const config = JSON.parse(await Deno.readTextFile(`${one}/adapter/adapter_config.json`));
    const { r, lora_alpha, target_modules, use_dora, lora_dropout, base_model_name_or_path } = config;
    assertEquals([r, lora_alpha, use_dora, lora_dropout, base_model_name_or_path], [2, 6, true, 0.2, base]);
    assertEquals(target_modules, ["q_proj", "up_proj"]);
    await train([...data, "--adapter", `${one}/adapter`, "--out", two]);
    assertEquals(await call(merge, [base, `${two}/adapter`, merged, "--no-tune"]), null);

    await using gpu = await openGpu();
    const model = await loadModel(gpu, base), ids = tensor(new Int32Array([1, 2, 3]), [1, 3]);
    const [plain, first, second, whole] = await Promise.all([
      model,
      await loadAdapter(gpu, model, `${one}/adapter`),
      await loadAdapter(gpu, model, `${two}/adapter`),
      await loadModel(gpu, merged),
    ].map(async (subject) => await read(gpu, logits(subject, ids)) as Float32Array));
    const most = (a: Float32Array, b: Float32Array): number =>
      Math.max(...a.map((x, i) => Math.abs(x - b[i])));
    assert(most(plain, first) > 1e-3 && most(first, second) > 1e-3);
    assert(most(second, whole) < 1e-5, `${most(second, whole)}`);
    assertEquals(
      await Deno.readFile(`${merged}/tokenizer.json`),
      await Deno.readFile(`${base}/tokenizer.json`),
    );
    assertMatch(
      String(await call(merge, [base, `${two}/adapter`, merged])),
      /it must be empty: .* choose another OUT$/,
    );
  });
});

Deno.test("finetune refuses flags of adapters that would do nothing", async () => {
  const rows: readonly (readonly [readonly string[], RegExp])[] = [
    [["--dora"], /--dora is for a new adapter: give its rank with --lora N/],
    [["--targets", "q_proj", "--adapter", "a"], /--targets is for a new adapter/],
    [["--lora", "2", "--adapter", "a"], /give one of both/],
    [["--base", "nf4"], /--base is for an adapter: add --lora N or --adapter DIR/],
    [["--lora-plus", "4"], /--lora-plus is for an adapter/],
    [["--lora", "2", "--lora-dropout", "1"], /--lora-dropout must be below 1/],
  ];
  for (const [args, message] of rows) {
    const error = await call(finetune, args);
    assert(error instanceof UsageError, args.join(" "));
    assertMatch(error.message, message);
  }
  for (const args of [["a", "b"], ["a", "b", "c", "d"]]) {
    assert(await call(merge, args) instanceof UsageError);
  }
});

Deno.test("--targets is a list of names and globs, or one expression as PEFT has them", () => {
  assertEquals(targetsOf("q_proj, *.mlp.*"), ["q_proj", "*.mlp.*"]);
  for (const one of ["all-linear", ".*q_proj", ".*\\.[qv]_proj", "model.*(q|v)_proj"]) {
    assertEquals(targetsOf(one), one);
  }
});
