import { assert, assertEquals, assertMatch } from "@std/assert";
import { openGpu } from "@firn/train";
import { asked, conform, conformAll, TOLERANCES } from "./conformance.ts";

const gpu = await openGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());
const FIXTURES = new URL("fixtures", import.meta.url).pathname;

Deno.test("conform agrees with transformers on logits, gradients, five steps, clipping and LoRA", async () => {
  const line = await conform(gpu, `${FIXTURES}/llama`);
  assertEquals(line.ok, true, JSON.stringify(line));
  for (const quantity of ["logits", "grads", "after5", "losses_clip", "lora_logits", "lora_after5"]) {
    assertEquals(typeof line[quantity], "number", `"${quantity}" must have been compared`);
  }
});

for (const metric of ["norm", "delta"]) {
  Deno.test(`conform freezes the components that GradES froze, at the same steps, by ${metric}`, async () => {
    const line = await conform(gpu, `${FIXTURES}/grades-${metric}`);
    assertEquals(line.ok, true, JSON.stringify(line));
    assertEquals(line.frozen_matches, true);
    assert(Object.keys(line.frozen_at as object).length > 0, "a run in which nothing froze shows nothing");
  });
}

Deno.test("conform reports a family it does not know and goes on", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify({ model_type: "gpt9" }));
    const line = await conform(gpu, folder);
    assertEquals(line.ok, false);
    assertMatch(
      line.error as string,
      /Cannot read "model_type" of ".*config.json" as it must be one of .*llama.*: "gpt9"/,
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

/** A folder of the least that can be compared, with some loss; it is gone after `check`. */
async function withGolden(factor: number, check: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    for (const name of ["config.json", "model.safetensors", "golden.safetensors"]) {
      await Deno.copyFile(`${FIXTURES}/llama/${name}`, `${folder}/${name}`);
    }
    const { loss, adamw } = JSON.parse(await Deno.readTextFile(`${FIXTURES}/llama/golden.json`));
    await Deno.writeTextFile(`${folder}/golden.json`, JSON.stringify({ loss: loss * factor, adamw }));
    await check(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("conform refuses a loss that is off by more than its tolerance", async () => {
  await withGolden(1 + 3 * TOLERANCES.loss, async (folder) => {
    const line = await conform(gpu, folder);
    assertEquals(line.ok, false);
    assert((line.loss as number) > TOLERANCES.loss);
    assert((line.logits as number) <= TOLERANCES.logits, "the rest agrees");
  });
});

Deno.test("conformAll checks a folder with each tile in turn, the products of trainings too", async () => {
  assertEquals(asked(["--tiles", "a", "b"]), { folders: ["a", "b"], tiles: true, help: false });
  await withGolden(1, async (folder) => {
    const own = { ...gpu, pipelines: new Map<string, GPUComputePipeline>() };
    for await (const line of conformAll(own, { folders: [folder], tiles: true })) {
      assertEquals(line.tile, "128x128x32 split 1");
      assertEquals(line.ok, true, JSON.stringify(line));
      break;
    }
    const texts = [...own.pipelines.keys()];
    const tiled = texts.filter((text) => text.includes("let m0 = tile.x * 128u;")).length;
    // Logits, loss and gradients need some, and the step of a training others: it computes no logits alone.
    assert(tiled > 10, `${tiled} of ${texts.length}`);
    assertEquals(texts.some((text) => text.includes("subgroupBroadcast")), false, "blocks instead of tiles");
  });
});
