/**
 * Files of other tools on the command line: `export` to GGUF, a GGUF file as the model, and files of a limited size.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { flatten, openGpu, readAll } from "@firn/train";
import { loadTokenizer } from "@firn/train/data";
import { loadModel, newAdapter, saveAdapter } from "@firn/train/hub";
import { openGguf } from "../../core/data/gguf/open_gguf.ts";
import { main as exportModel } from "../../examples/export.ts";
import { main as finetune } from "../../examples/finetune.ts";
import { UsageError } from "../../examples/flags.ts";
import { MAX_SHARD_SIZE } from "../../examples/shard_size.ts";
import { inFolder } from "../data/files.ts";
import { makeModel, TEXT } from "../torture/small_model.ts";
import { call } from "./process.ts";

Deno.test("a model is exported to GGUF, fine-tuned from there, and saved in files of a limited size", async () => {
  await inFolder(async (folder) => {
    const base = `${folder}/base`,
      path = `${folder}/m.gguf`,
      data = `${folder}/text.txt`,
      out = `${folder}/out`;
    await makeModel(base);
    await Deno.writeTextFile(data, TEXT);
    assertEquals(await call(exportModel, [base, path, "--type", "f32", "--no-tune"]), null);
    {
      await using gpu = await openGpu();
      const [one, other] = [await loadModel(gpu, base), await loadModel(gpu, path)];
      const [a, b] = await Promise.all(
        [one, other].map(({ params }) => readAll(gpu, [...flatten(params).values()])),
      );
      assertEquals(a, b);
      const adapted = await newAdapter(gpu, one, { rank: 2, targets: ["q_proj"], init: false });
      await saveAdapter(gpu, adapted, { folder: `${folder}/adapter` });
    }
    const [before, after] = [await loadTokenizer(base), await loadTokenizer(path)];
    assertEquals(after.encode(TEXT.slice(0, 200)), before.encode(TEXT.slice(0, 200)));
    const adapter = ["--adapter", `${folder}/adapter`, "--no-tune"];
    assertEquals(await call(exportModel, [base, `${folder}/a.gguf`, ...adapter]), null);
    await using pairs = await openGguf(`${folder}/a.gguf`);
    assert(pairs.names.every((name) => /attn_q\.weight\.lora_[ab]$/.test(name)));
    const error = String(await call(exportModel, [base, path, "--no-tune"]));
    assertMatch(error, /as it is there/);

    const short = ["--steps", "2", "--batch", "2", "--length", "8", "--eval-tokens", "16", "--no-sample"];
    const args = ["--model", path, "--data", data, "--out", out, "--max-shard-size", "2KB", "--no-tune"];
    assertEquals(await call(finetune, [...args, ...short]), null);
    const files = [...Deno.readDirSync(`${out}/model`)].map(({ name }) => name);
    assert(files.includes("model.safetensors.index.json") && !files.includes("model.safetensors"));
    assert(files.includes("tokenizer.json"));
  });
});

Deno.test("export refuses a command line that it does not understand", async () => {
  for (const args of [["a"], ["a", "b.gguf", "c"], ["a", "b.bin"], ["a", "b.gguf", "--type", "q2_k"]]) {
    assert(await call(exportModel, args) instanceof UsageError, args.join(" "));
  }
});

Deno.test("sizes of files are numbers of bytes, with units of a thousand", () => {
  const sizes = ["5GB", "1.5mb", "20 ", "3KB"].map((text) => MAX_SHARD_SIZE.read(text));
  assertEquals(sizes, [5e9, 1.5e6, 20, 3000]);
  for (const text of ["GB", "0", "-1GB", "5GiB", "five", ""]) {
    let message = "";
    try {
      MAX_SHARD_SIZE.read(text);
    } catch (error) {
      message = (error as Error).message;
    }
    assertMatch(message, /such as 5GB/, text);
  }
});
