import { assert, assertEquals, assertMatch } from "@std/assert";
import { openGpu } from "@firn/train";
import { conform, TOLERANCES } from "./conformance.ts";

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

Deno.test("conform refuses a loss that is off by more than its tolerance", async () => {
  const folder = await Deno.makeTempDir();
  try {
    for (const name of ["config.json", "model.safetensors", "golden.safetensors"]) {
      await Deno.copyFile(`${FIXTURES}/llama/${name}`, `${folder}/${name}`);
    }
    const { loss, adamw } = JSON.parse(await Deno.readTextFile(`${FIXTURES}/llama/golden.json`));
    await Deno.writeTextFile(
      `${folder}/golden.json`,
      JSON.stringify({ loss: loss * (1 + 3 * TOLERANCES.loss), adamw }),
    );
    const line = await conform(gpu, folder);
    assertEquals(line.ok, false);
    assert((line.loss as number) > TOLERANCES.loss);
    assert((line.logits as number) <= TOLERANCES.logits, "the rest agrees");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
