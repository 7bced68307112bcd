/** The trainer on the library alone, on a tiny model. */

import { assert, assertEquals } from "@std/assert";
import { openGpu } from "@firn/train";
import { loadModel } from "@firn/train/hub";
import { train } from "../../examples/trainer.ts";
import { inFolder } from "../data/files.ts";

const ROOT = new URL("../../", import.meta.url);

Deno.test("trainer takes its steps, and writes a model that loads", async () => {
  await inFolder(async (folder) => {
    const text = await Deno.readTextFile(new URL("README.md", ROOT));
    const model = decodeURIComponent(new URL("examples/models/sotu", ROOT).pathname);
    const losses = await train({ model, text, out: `${folder}/out`, steps: 2, batch: 1, length: 8 });
    assertEquals(losses.length, 2);
    assert(losses.every((loss) => loss > 0 && loss < 20), `${losses}`);
    await using gpu = await openGpu();
    assertEquals((await loadModel(gpu, `${folder}/out/model`)).architecture, "LlamaForCausalLM");
  });
});
