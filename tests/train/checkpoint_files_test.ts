/** The files of checkpoints: what is refused, what is kept, and which run goes on. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  adamW,
  chain,
  clipByGlobalNorm,
  DataError,
  defineTraining,
  type FreezePolicy,
  InputError,
  NonFiniteError,
  type Schedule,
  sgd,
  type Training,
  type TrainingOptions,
} from "@firn/train";
import { loadCheckpoint, removeCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { below, sticky } from "@firn/train/policies";
import { openSafetensors, type TensorToStore, writeSafetensors } from "@firn/train/data";
import { inFolder } from "../data/files.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { advance, type Mlp, mlpLoss, newMlp, type Pairs, pairs } from "./tiny.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const STEPS = 8, batches = pairs(STEPS);

function define(options: Partial<TrainingOptions<Pairs>> = {}): Training<Mlp, Pairs> {
  return defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
    optimizer: chain(clipByGlobalNorm(0.5), adamW({ learningRate: 0.1 })),
    steps: STEPS,
    ...options,
  });
}

const withFile = (body: (path: string) => Promise<void>): Promise<void> =>
  inFolder((folder) => body(`${folder}/state.safetensors`));

Deno.test("saveCheckpoint refuses a state that is not finite, and keeps the files as they were", async () => {
  await withFile(async (path) => {
    using training = define({ lookEvery: STEPS });
    let state = await advance(training, await training.init(newMlp()), { to: 2, batches });
    await saveCheckpoint(gpu, state, { path });
    const good = await Deno.readFile(path);
    using wild = define({ lookEvery: STEPS, optimizer: adamW({ learningRate: 1e38 }) });
    state = await advance(wild, await wild.init(newMlp()), { to: 3, batches });
    const error = await assertRejects(
      () => saveCheckpoint(gpu, state, { path }),
      NonFiniteError,
      "Cannot save",
    );
    assertEquals(error.step, 3);
    assertEquals(await Deno.readFile(path), good);
  });
});

Deno.test("saveCheckpoint keeps the checkpoint before, which is read when the newest is gone; removeCheckpoint removes all", async () => {
  await withFile(async (path) => {
    using training = define();
    let state = await training.init(newMlp());
    const older = path.replace(".safetensors", ".1.safetensors");
    for (const step of [1, 2, 3]) {
      state = await advance(training, state, { to: step, batches });
      await saveCheckpoint(gpu, state, { path });
    }
    assertEquals([(await loadCheckpoint(path)).step, (await loadCheckpoint(older)).step], [3, 2]);
    await Deno.remove(path);
    assertEquals((await loadCheckpoint(path)).step, 2);
    await saveCheckpoint(gpu, state, { path, keep: 3 });
    await removeCheckpoint(path);
    assertEquals(await Array.fromAsync(Deno.readDir(path.replace(/\/[^/]*$/, ""))), []);
    await assertRejects(() => saveCheckpoint(gpu, state, { path, keep: 0 }), InputError, '"keep"');
  });
});

Deno.test("resume names what differs, and takes another learning rate only when asked", async () => {
  await withFile(async (path) => {
    const held = pairs(2);
    const options = { validation: { batches: held, every: 3 }, data: "abc" };
    const rate = (learningRate: number, more = {}) =>
      chain(clipByGlobalNorm(0.5), adamW({ learningRate, ...more }));
    using training = define({ ...options, optimizer: rate(0.1) });
    await saveCheckpoint(gpu, await advance(training, await training.init(newMlp()), { to: 1, batches }), {
      path,
    });
    const { extra: _, ...saved } = await loadCheckpoint(path);
    const others: readonly [Partial<TrainingOptions<Pairs>>, string][] = [
      [{ ...options, optimizer: rate(0.2) }, "adamW(0.2"],
      [{ ...options, optimizer: rate(0.1, { beta2: 0.95 }) }, "beta2 0.95"],
      [{ ...options, optimizer: rate(0.1), data: "other" }, '"data" is "other" where that had "abc"'],
      [
        { ...options, optimizer: rate(0.1), validation: { batches: pairs(3), every: 3 } },
        '"validation" is "',
      ],
      [
        { ...options, optimizer: rate(0.1), validation: { batches: held, every: 4 } },
        '"validateEvery" is 4 where that had 3',
      ],
      [{ ...options, optimizer: rate(0.1), lookEvery: 7 }, '"lookEvery" is 7'],
      [{ ...options, optimizer: rate(0.1), thawWarmup: 3 }, '"thawWarmup" is 3 where that had 10'],
      [{ ...options, optimizer: rate(0.1), trainable: (name) => !name.startsWith("top") }, "trainable"],
    ];
    for (const [other, seen] of others) {
      using changed = define(other);
      await assertRejects(() => changed.resume(saved), InputError, seen, seen);
    }
    using faster = define({ ...options, optimizer: rate(0.2) });
    assertEquals((await faster.resume(saved, { newRate: true })).step, 1);
    using other = define({ ...options, optimizer: rate(0.2, { eps: 1e-3 }) });
    await assertRejects(() => other.resume(saved, { newRate: true }), InputError, "eps 0.001");
  });
});

Deno.test("loadCheckpoint names the field that is not what it must be", async () => {
  await withFile(async (path) => {
    using training = define();
    await saveCheckpoint(gpu, await advance(training, await training.init(newMlp()), { to: 1, batches }), {
      path,
    });
    const { fields, tensors } = await storedIn(path);
    const wrong: Readonly<Record<string, unknown>> = {
      step: 1.5,
      settings: 1,
      frozen: "bottom",
      since: { bottom: -1 },
      ending: "x",
      validation: { step: 1, loss: null },
      best: "1",
      chosen: null,
      probed: null,
      order: ["a", "a"],
      extra: undefined,
    };
    for (const [field, value] of Object.entries(wrong)) {
      const metadata = { firn: JSON.stringify({ ...fields, [field]: value }) };
      await writeSafetensors(path, tensors, { metadata });
      await assertRejects(() => loadCheckpoint(path), DataError, `"${field}" of its training state must be`);
    }
    for (
      const [field, seen] of [["steps", '"settings".steps must be'], ["ema", '"settings"["ema"] must be']]
    ) {
      const { settings } = fields as unknown as { readonly settings: object };
      const firn = JSON.stringify({ ...fields, settings: { ...settings, [field]: [] } });
      await writeSafetensors(path, tensors, { metadata: { firn } });
      await assertRejects(() => loadCheckpoint(path), DataError, seen);
    }
    const deep = "[".repeat(200_000) + "]".repeat(200_000), text = JSON.stringify(fields);
    for (const [field, seen] of [["version", "layout a list"], ["extra", "nest 100 deep"]]) {
      const firn = text.replace(new RegExp(`"${field}":[^,]*`), `"${field}":${deep}`);
      await writeSafetensors(path, tensors, { metadata: { firn } });
      await assertRejects(() => loadCheckpoint(path), DataError, seen);
    }
    const metadata = { firn: JSON.stringify({ ...fields, order: ["nowhere"], checksum: undefined }) };
    await writeSafetensors(path, tensors, { metadata });
    await assertRejects(() => loadCheckpoint(path), DataError, '"nowhere" is missing');
  });
});

Deno.test("loadCheckpoint refuses fields that contradict each other, and a record that was changed", async () => {
  await withFile(async (path) => {
    using training = define();
    await saveCheckpoint(gpu, await advance(training, await training.init(newMlp()), { to: 5, batches }), {
      path,
    });
    const { fields, tensors } = await storedIn(path);
    const wrong: readonly [Record<string, unknown>, string][] = [
      [{ frozen: ["nowhere"] }, '"frozen" of its training state must fit the others'],
      [{ since: JSON.parse('{"__proto__": 1}') }, '"since"'],
      [{ probed: ["top"] }, '"probed"'],
      [{ since: { top: 6 } }, '"since"'],
      [{ best: 6 }, '"best"'],
      [{ validation: { step: 6, loss: 1 } }, '"validation"'],
      [{ ending: { reason: "stopped", step: 2, best: null } }, '"ending"'],
      [{ step: 1 }, "it was changed"],
      [{ step: 1e9 }, "it was changed"],
      [{ policy: 5 }, "it was changed"],
    ];
    for (const [change, seen] of wrong) {
      await writeSafetensors(path, tensors, { metadata: { firn: JSON.stringify({ ...fields, ...change }) } });
      await assertRejects(() => loadCheckpoint(path), DataError, seen, seen);
    }
  });
});

Deno.test("loadCheckpoint reads the checkpoint before when the newest is damaged, and says which", async () => {
  await withFile(async (path) => {
    using training = define();
    let state = await training.init(newMlp());
    for (const step of [1, 2]) {
      await saveCheckpoint(gpu, state = await advance(training, state, { to: step, batches }), { path });
    }
    const bytes = await Deno.readFile(path), older = path.replace(".safetensors", ".1.safetensors");
    await Deno.writeFile(path, bytes.slice(0, 50));
    const found = await loadCheckpoint(path);
    assertEquals([found.step, found.path], [1, older]);
    await Deno.writeFile(older, bytes.slice(0, 50));
    await assertRejects(() => loadCheckpoint(path), DataError, `"${path}"`);
  });
});

Deno.test("resume compares the rates of a schedule without a name, and the trained parameters without moments", async () => {
  await withFile(async (path) => {
    const falling: Schedule = (step) => 0.1 / step, wild: Schedule = () => 50;
    using training = define({ optimizer: adamW({ learningRate: falling }) });
    await saveCheckpoint(gpu, await advance(training, await training.init(newMlp()), { to: 1, batches }), {
      path,
    });
    const saved = await loadCheckpoint(path);
    using same = define({ optimizer: adamW({ learningRate: (step) => 0.1 / step }) });
    assertEquals((await same.resume(saved)).step, 1);
    using other = define({ optimizer: adamW({ learningRate: wild }) });
    await assertRejects(() => other.resume(saved), InputError, "rates");
    assertEquals((await other.resume(saved, { newRate: true })).step, 1);
    const named = Object.assign(wild, { description: "stairs(50, by (1))" });
    using stairs = define({ optimizer: adamW({ learningRate: named }) });
    assertEquals((await stairs.resume(saved, { newRate: true })).step, 1);
    using betas = define({ optimizer: adamW({ learningRate: falling, beta1: 0.5 }) });
    await assertRejects(() => betas.resume(saved), InputError, "beta1 0.5");
    using plain = define({ optimizer: sgd({ learningRate: 0.1 }) });
    await saveCheckpoint(gpu, await plain.init(newMlp()), { path });
    using part = define({
      optimizer: sgd({ learningRate: 0.1 }),
      trainable: (name) => name.startsWith("top"),
    });
    await assertRejects(
      async () => await part.resume(await loadCheckpoint(path)),
      InputError,
      '"trained" is 1 where that had 2',
    );
  });
});

Deno.test("resume refuses a step beyond the run and a state that the policy cannot read", async () => {
  await withFile(async (path) => {
    const policy = sticky(below("gradNorm", 1e-9));
    using training = define({ policy });
    await saveCheckpoint(gpu, await advance(training, await training.init(newMlp()), { to: 2, batches }), {
      path,
    });
    const saved = await loadCheckpoint(path);
    await assertRejects(() => training.resume({ ...saved, step: 1e9, ending: null }), DataError, "8 steps");
    const ending = { reason: "steps", step: 2, best: null } as const;
    await assertRejects(() => training.resume({ ...saved, ending }), DataError, "8 steps");
    await assertRejects(() => training.resume({ ...saved, policy: null }), DataError, '"policy"');
  });
});

Deno.test("a saved state that the policy cannot go on from is refused at the next look, and a defect of a policy stays one", async () => {
  await withFile(async (path) => {
    const policy: FreezePolicy<{ readonly seen: readonly number[] }> = {
      name: "counting",
      signals: [],
      init: () => ({ seen: [] }),
      next: ({ seen }, { steps }) => ({ seen: seen.concat(steps) }),
      frozen: () => [],
    };
    using training = define({ policy: policy as FreezePolicy, lookEvery: 1 });
    let state = await advance(training, await training.init(newMlp()), { to: 1, batches });
    await saveCheckpoint(gpu, state, { path });
    state = await training.resume({ ...await loadCheckpoint(path), policy: {} });
    const error = await assertRejects(() => training.next(state, batches[1]), DataError, '"policy"');
    assert(error.cause instanceof TypeError);
    using broken = define({
      policy: { ...policy, init: () => ({}) } as unknown as FreezePolicy,
      lookEvery: 1,
    });
    state = await broken.init(newMlp());
    await assertRejects(() => broken.next(state, batches[0]), TypeError);
  });
});

/** The record and the tensors of a checkpoint. */
async function storedIn(path: string): Promise<{ fields: object; tensors: TensorToStore[] }> {
  await using file = await openSafetensors(path);
  const tensors = await Promise.all(file.names.map(async (name): Promise<TensorToStore> => {
    const { shape } = file.specs.get(name)!;
    return { name, shape, dtype: "F32", data: await file.readF32(name) };
  }));
  return { fields: JSON.parse(file.metadata.firn), tensors };
}
