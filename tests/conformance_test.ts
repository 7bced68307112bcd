import { assert, assertEquals, assertMatch } from "@std/assert";
import { openSafetensors } from "@firn/train/data";
import { type TensorToStore, writeSafetensors } from "../core/data/safetensors_write.ts";
import { conform, conformAll, TOLERANCES } from "./conformance.ts";
import { asked } from "./conformance_flags.ts";
import { openTestGpu } from "./reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());
const FIXTURES = `${import.meta.dirname}/fixtures`;

/** Quantities that a folder with an adapter has, and which of them a fixture leaves out. */
const COMPARED = ["logits", "grads", "after5", "losses_plain", "losses_clip", "lora_logits", "lora_grads"];
const LEFT_OUT: Readonly<Record<string, readonly string[]>> = {
  qwen3: ["after5"],
  qwen2: ["lora_after5"],
  gemma2: ["lora_logits", "lora_grads", "lora_after5"],
};

for (
  const family of [
    ...["llama", "qwen2", "qwen3", "mistral", "phi3", "gemma", "gemma2", "gemma3_text"],
    ...["smollm3", "olmo2", "granite", "gpt2", "gpt_neox", "qwen3_moe"],
  ]
) {
  Deno.test(`conform agrees with transformers on logits, gradients, steps, clipping and LoRA: ${family}`, async () => {
    const line = await conform(gpu, `${FIXTURES}/${family}`);
    assertEquals(line.ok, true, JSON.stringify(line));
    for (const quantity of [...COMPARED, "lora_after5"]) {
      const expected = LEFT_OUT[family]?.includes(quantity) ? "object" : "number";
      assertEquals(typeof line[quantity], expected, `"${quantity}" of ${JSON.stringify(line)}`);
    }
  });
}

for (const kind of ["llama-dora", "llama-saved-modules"]) {
  Deno.test(`conform agrees with PEFT on logits, gradients and steps of an adapter: ${kind}`, async () => {
    const line = await conform(gpu, `${FIXTURES}/${kind}`);
    assertEquals(line.ok, true, JSON.stringify(line));
    for (const quantity of ["lora_logits", "lora_grads", "lora_after5", "losses_lora"]) {
      assertEquals(typeof line[quantity], "number", `"${quantity}" of ${JSON.stringify(line)}`);
    }
  });
}

for (const family of ["bert", "bert-tokens", "distilbert", "roberta", "vit", "smolvlm"]) {
  Deno.test(`conform agrees with transformers on scores, gradients, steps and clipping: ${family}`, async () => {
    const line = await conform(gpu, `${FIXTURES}/${family}`);
    assertEquals(line.ok, true, JSON.stringify(line));
    for (const quantity of ["logits", "loss", "grads", "losses_plain", "losses_clip"]) {
      assertEquals(typeof line[quantity], "number", `"${quantity}" of ${JSON.stringify(line)}`);
    }
    assertEquals(typeof line.after5, family === "bert-tokens" ? "number" : "object");
  });
}

for (const metric of ["norm", "delta"]) {
  Deno.test(`conform freezes the components that GradES froze, at the same steps, by ${metric}`, async () => {
    const line = await conform(gpu, `${FIXTURES}/grades-${metric}`);
    assertEquals(line.ok, true, JSON.stringify(line));
    assertEquals(line.frozen_matches, true);
    assert(Object.keys(line.frozen_at as object).length > 0, "a run in which nothing froze shows nothing");
  });
}

for (const family of ["llama", "gemma3"]) {
  Deno.test(`conform generates the tokens of transformers, in a batch and alone: ${family}`, async () => {
    const line = await conform(gpu, `${FIXTURES}/generate-${family}`);
    assertEquals([line.ok, line.generated], [true, true], JSON.stringify(line));
    assert(typeof line.first_logprobs === "number");
  });
}

Deno.test("conform tells which tokens differ", async () => {
  const folder = await Deno.makeTempDir();
  try {
    for (const name of ["config.json", "model.safetensors"]) {
      await Deno.copyFile(`${FIXTURES}/generate-llama/${name}`, `${folder}/${name}`);
    }
    const wanted = { prompts: [[59, 45, 74, 70, 48], [77]], greedy: [[10, 56, 57], [0, 0, 0]] };
    await Deno.writeTextFile(`${folder}/generate.json`, JSON.stringify(wanted));
    const { ok, generated, differs } = await conform(gpu, folder);
    assertEquals({ ok, generated, differs }, {
      ok: false,
      generated: false,
      differs: ["greedy of 0,1", "greedy of 1"],
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

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

interface Change {
  /** The fixture to start from; llama when absent. */
  readonly fixture?: string;
  /** Multiplies the loss. */
  readonly factor?: number;
  /** Changes values of `golden.safetensors`. */
  readonly alter?: (name: string, values: Float32Array) => void;
  /** Leaves out the tensors of this prefix. */
  readonly drop?: string;
}

/** Makes a folder with the fewest files that can be compared, runs `check` on it, and deletes it. */
async function withGolden(
  { fixture = "llama", factor = 1, alter, drop }: Change,
  check: (folder: string) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir(), source = `${FIXTURES}/${fixture}`;
  try {
    for (const name of ["config.json", "model.safetensors", "golden.safetensors"]) {
      await Deno.copyFile(`${source}/${name}`, `${folder}/${name}`);
    }
    if (alter !== undefined || drop !== undefined) {
      await using file = await openSafetensors(`${source}/golden.safetensors`);
      const tensors: TensorToStore[] = [];
      for (const name of file.names) {
        if (drop !== undefined && name.startsWith(drop)) continue;
        const data = await file.readF32(name);
        alter?.(name, data);
        const { shape, dtype } = file.specs.get(name)!;
        const stored = dtype === "I32" ? Int32Array.from(data) : data;
        tensors.push({ name, dtype: dtype === "I32" ? "I32" : "F32", shape, data: stored });
      }
      await writeSafetensors(`${folder}/golden.safetensors`, tensors);
    }
    const { loss, adamw, left_out } = JSON.parse(await Deno.readTextFile(`${source}/golden.json`));
    const golden = { loss: loss * factor, adamw, left_out };
    await Deno.writeTextFile(`${folder}/golden.json`, JSON.stringify(golden));
    await check(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("conform refuses a loss that is off by more than its tolerance", async () => {
  await withGolden({ factor: 1 + 3 * TOLERANCES.loss }, async (folder) => {
    const line = await conform(gpu, folder);
    assertEquals(line.ok, false);
    assert((line.loss as number) > TOLERANCES.loss);
    assert((line.logits as number) <= TOLERANCES.logits, "the rest agrees");
  });
});

Deno.test("conform compares all logits where there is no attention mask", async () => {
  const alter = (name: string, values: Float32Array): void => {
    if (name === "logits") values[0] += 1;
  };
  await withGolden({ alter }, async (folder) => {
    const line = await conform(gpu, folder);
    assertEquals(line.ok, false);
    assert(line.logits as number > TOLERANCES.logits, JSON.stringify(line));
  });
});

Deno.test("conform compares logits only where the attention mask is 1", async () => {
  // The second row has 11 tokens and 5 positions of padding.
  const last = (position: number) => (name: string, values: Float32Array): void => {
    if (name === "logits") values[position * 96] += 1;
  };
  await withGolden({ fixture: "qwen3", alter: last(26) }, async (folder) => {
    const line = await conform(gpu, folder);
    assert(line.logits as number > TOLERANCES.logits, JSON.stringify(line));
  });
  await withGolden({ fixture: "qwen3", alter: last(27) }, async (folder) => {
    assertEquals((await conform(gpu, folder)).ok, true);
  });
});

Deno.test("conform refuses a folder without the tensors of a quantity that golden.json does not leave out", async () => {
  await withGolden({ drop: "after5." }, async (folder) => {
    const line = await conform(gpu, folder);
    assertEquals([line.ok, line.after5], [false, "names, sizes or NaN differ"]);
  });
});

Deno.test("conform refuses a mask that counts no position, and a file where a folder must be", async () => {
  const alter = (name: string, values: Float32Array): void => {
    if (name === "input.attention_mask") values.fill(0);
  };
  await withGolden({ fixture: "qwen3", alter }, async (folder) => {
    const { ok, error } = await conform(gpu, folder);
    assertEquals(ok, false);
    assertMatch(error as string, /as some position must count: all are padding$/);
    assertEquals((await conform(gpu, `${folder}/config.json`)).ok, false);
  });
});

Deno.test("conform gives the mask to the model, so that padding on the left changes what is seen", async () => {
  const alter = (name: string, values: Float32Array): void => {
    if (name === "input.attention_mask") values.reverse();
  };
  await withGolden({ fixture: "qwen3", alter }, async (folder) => {
    const { ok, logits } = await conform(gpu, folder);
    assertEquals(ok, false);
    assert(logits as number > TOLERANCES.logits, `${logits}`);
  });
});

Deno.test("conform judges parameters after five steps only where the first gradient is no noise", async () => {
  // The id 0 is not in the batch and the head is not tied, so its row of the embedding has no gradient.
  const change = (id: number) => (name: string, values: Float32Array): void => {
    if (name === "after5.model.embed_tokens.weight") values[id * 32] += 1;
  };
  await withGolden({ fixture: "mistral", alter: change(0) }, async (folder) => {
    assertEquals((await conform(gpu, folder)).ok, true);
  });
  await withGolden({ fixture: "mistral", alter: change(15) }, async (folder) => {
    const line = await conform(gpu, folder);
    assert(line.after5 as number > TOLERANCES.after5, JSON.stringify(line));
  });
});

Deno.test("conformAll checks a folder with each tile in turn, the products of trainings too", async () => {
  const device = { gpu: "dawn", "unsafe-gpu": true, "no-tune": false, device: null } as const;
  assertEquals(asked(["--tiles", "--unsafe-gpu", "a", "--gpu", "dawn", "b"]), {
    ...{ folders: ["a", "b"], tiles: true, help: false },
    ...{ device, precision: "f32" },
  });
  assertEquals(asked(["a", "--precision", "f32x3"]).precision, "f32x3");
  await withGolden({}, async (folder) => {
    const own = { ...gpu, pipelines: new Map<string, GPUComputePipeline>() };
    for await (const line of conformAll(own, { folders: [folder], tiles: true })) {
      assertEquals(line.tile, "128x128x32 split 1");
      assertEquals(line.ok, true, JSON.stringify(line));
      break;
    }
    const texts = [...own.pipelines.keys()];
    const tiled = texts.filter((text) => text.includes("let m0 = tile.x * 128u;")).length;
    // Logits, loss and gradients use some pipelines, and the step of a training uses others.
    assert(tiled > 10, `${tiled} of ${texts.length}`);
    assertEquals(texts.some((text) => text.includes("subgroupBroadcast")), false, "blocks instead of tiles");
  });
});
