import { assert, assertEquals, assertRejects } from "@std/assert";
import { openGpu } from "@firn/train";
import { turning } from "../../core/runtime/turns.ts";

/** What an addon promises is settled in a later turn of the event loop. */
function later<T>(value: T): Promise<T> {
  return new Promise((resolve) => setTimeout(() => resolve(value), 20));
}

/** Counts turns of the event loop while work is done: messages of channels. */
async function countingTurns(work: (turns: () => number) => Promise<void>): Promise<void> {
  const { prototype } = MessagePort, { postMessage } = prototype;
  let turns = 0;
  prototype.postMessage = function (message: unknown): void {
    turns++;
    postMessage.call(this, message);
  };
  try {
    await work(() => turns);
  } finally {
    prototype.postMessage = postMessage;
  }
}

Deno.test("turning keeps the event loop turning while an addon's promise is open, and gives its value", async () => {
  await countingTurns(async (turns) => {
    assertEquals(await turning({ source: { api: {} } }, later(7)), 7);
    const before = turns();
    assert(before > 1, `${before} turns`);
    assertEquals(await turning({ source: { api: navigator.gpu } }, later(8)), 8);
    assertEquals(turns(), before);
  });
});

Deno.test("openGpu keeps it turning while an addon finds its adapter, opens its device and tries a shader", async () => {
  await countingTurns(async (turns) => {
    const seen: Record<string, number> = {};
    const slow = async <T>(name: string, work: Promise<T>): Promise<T> => {
      const value = await work, before = turns();
      await later(null);
      seen[name] = turns() - before;
      return value;
    };
    const open = async (adapter: GPUAdapter, wanted?: GPUDeviceDescriptor): Promise<GPUDevice> => {
      const device = await adapter.requestDevice(wanted), pop = device.popErrorScope;
      return Object.assign(device, { popErrorScope: () => slow("shader", pop.call(device)) });
    };
    const find = async (wanted?: GPURequestAdapterOptions): Promise<GPUAdapter> => {
      const adapter = (await navigator.gpu.requestAdapter(wanted))!, { features, limits, info } = adapter;
      const requestDevice = (wanted?: GPUDeviceDescriptor) => slow("device", open(adapter, wanted));
      return { features, limits, info, requestDevice } as GPUAdapter;
    };
    await using _gpu = await openGpu({
      gpu: { requestAdapter: (wanted?: GPURequestAdapterOptions) => slow("adapter", find(wanted)) },
    });
    assertEquals(Object.keys(seen).toSorted(), ["adapter", "device", "shader"]);
    for (const [name, count] of Object.entries(seen)) assert(count > 1, `${count} turns for the ${name}`);
  });
});

Deno.test("one loop turns for all that wait, as each of many would delay what the others hear", async () => {
  await countingTurns(async (turns) => {
    const from = { source: { api: {} } }, alone = turns();
    await turning(from, later(1));
    const before = turns();
    await Promise.all(Array.from({ length: 50 }, (_, i) => turning(from, later(i))));
    const [one, many] = [before - alone, turns() - before];
    assert(many < 10 * one, `${many} turns for 50, and ${one} for one`);
    await later(0);
    const ended = turns();
    await later(0);
    assertEquals(turns(), ended, "it turns while something waits, and no longer");
  });
});

Deno.test("the loop that turns for one that waits turns for the next one, too", async () => {
  const from = { source: { api: {} } }, Channel = MessageChannel;
  let made = 0;
  globalThis.MessageChannel = class extends Channel {
    constructor() {
      super();
      made++;
    }
  };
  try {
    for (let i = 0; i < 50; i++) assertEquals(await turning(from, Promise.resolve(i)), i);
  } finally {
    globalThis.MessageChannel = Channel;
  }
  assertEquals(made, 1);
});

Deno.test("turning waits for no immediate, which Deno 2.9 leaves for seconds while an addon works", async () => {
  const all = globalThis as unknown as { setImmediate: unknown }, { setImmediate } = all;
  all.setImmediate = () => 0;
  try {
    assertEquals(await turning({ source: { api: {} } }, later(7)), 7);
  } finally {
    all.setImmediate = setImmediate;
  }
});

Deno.test("turning rejects as the promise does", async () => {
  const refused = new Promise((_, reject) => setTimeout(() => reject(new RangeError("lost")), 5));
  await assertRejects(() => turning({ source: { api: {} } }, refused), RangeError, "lost");
});
