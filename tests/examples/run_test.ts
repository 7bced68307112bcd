/**
 * What finetune, pretrain and digits have in common: runs that are interrupted and go on.
 *
 * @module
 */

import { assertEquals, assertInstanceOf, assertStringIncludes } from "@std/assert";
import { FileError } from "@firn/train";
import { lockFolder } from "@firn/train/data";
import { main as digits } from "../../examples/digits.ts";
import { main as pretrain } from "../../examples/pretrain.ts";
import { InterruptedError } from "../../examples/signals.ts";
import { inFolder } from "../data/files.ts";
import { call, TEXT } from "./process.ts";

type Main = (args: readonly string[]) => Promise<void>;

const PRETRAIN =
  "--steps 60 --batch 2 --length 8 --vocab 258 --hidden 8 --layers 1 --heads 2 --kv-heads 1 --mlp 8 --data @/text.txt";

/** The log without what no two runs share: the pace and the folder. */
async function readLog(out: string): Promise<Record<string, unknown>[]> {
  const text = await Deno.readTextFile(`${out}/metrics.jsonl`);
  return text.trimEnd().split("\n").map((row) => {
    const { stepMs: _, tokensPerSecond: __, memoryBytes: ___, ...line } = JSON.parse(row);
    return line.kind === "start" ? { ...line, config: { ...line.config, out: null } } : line;
  });
}

/** Calls a command and sends it a signal as soon as its bar says something. */
async function interrupted(main: Main, args: readonly string[], at: string): Promise<unknown> {
  const { addSignalListener, removeSignalListener } = Deno, handlers = new Map<string, () => void>();
  try {
    Deno.addSignalListener = (signal, handler) => void handlers.set(signal, handler);
    Deno.removeSignalListener = (signal) => void handlers.delete(signal);
    const error = await call(main, args, (text) => text.includes(at) && handlers.get("SIGTERM")!());
    assertEquals(handlers.size, 0);
    return error;
  } finally {
    Object.assign(Deno, { addSignalListener, removeSignalListener });
  }
}

Deno.test("pretrain saves at a signal, has its folder for itself, and resumed ends as a run that nobody ended", async () => {
  await inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/text.txt`, TEXT);
    const args = PRETRAIN.replace("@", folder).split(" ");
    const [whole, broken] = [`${folder}/whole`, `${folder}/broken`];
    assertEquals(await call(pretrain, [...args, "--out", whole]), null);

    // Looks come after each 50 steps.
    const error = await interrupted(pretrain, [...args, "--out", broken], "50/60");
    assertInstanceOf(error, InterruptedError);
    assertEquals([error.code, error.message], [
      143,
      `stopped by SIGTERM; step 50 is saved: go on with --resume ${broken}`,
    ]);
    const refused = await call(pretrain, ["--resume", broken, "--steps", "9"]);
    assertStringIncludes(`${refused}`, "--resume keeps the flags of its run: drop --steps");
    {
      await using _lock = await lockFolder(broken);
      assertInstanceOf(await call(pretrain, ["--resume", broken]), FileError);
    }
    assertEquals(await call(pretrain, ["--resume", broken]), null);
    assertEquals(await readLog(broken), await readLog(whole));
    const weights = (out: string) => Deno.readFile(`${out}/model/model.safetensors`);
    assertEquals(await weights(broken), await weights(whole));
    assertEquals(await names(broken), ["metrics.jsonl", "model", "report.html", "run.toml"]);
    assertEquals(await names(`${broken}/model`), [
      "config.json",
      "model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
  });
});

Deno.test("digits saves at a signal, and resumed takes the other steps", async () => {
  await inFolder(async (out) => {
    const args = ["--steps", "20", "--batch", "8", "--policy", "none", "--tensorboard", "--out", out];
    assertInstanceOf(await interrupted(digits, args, "10/20"), InterruptedError);
    const saved = ["checkpoint.1.safetensors", "checkpoint.safetensors"];
    assertEquals(await names(out), [...saved, "metrics.jsonl", "run.toml", "tensorboard"]);
    const rates = async () => (await Deno.readTextFile(`${out}/run.toml`)).match(/^rate = .*$/m)?.[0];
    assertEquals(await rates(), "rate = 0.002");
    assertEquals(await call(digits, ["--resume", out, "--rate", "0.0007"]), null);
    assertEquals(await rates(), "rate = 0.0007");
    assertEquals(await names(out), ["metrics.jsonl", "report.html", "run.toml", "tensorboard"]);
    // TensorBoard reads a file for each part of the run.
    assertEquals((await names(`${out}/tensorboard`)).length, 2);
    const log = await readLog(out), steps = log.filter(({ kind }) => kind === "step").map(({ step }) => step);
    assertEquals(steps, Array.from({ length: 20 }, (_, i) => i + 1));
    assertEquals([log[0].kind, log.at(-1)!.kind], ["start", "end"]);
  });
});

async function names(folder: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)).sort();
}
