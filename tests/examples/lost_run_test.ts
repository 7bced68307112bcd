/** The example `finetune` on a device that is lost. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { DeviceLostError } from "@firn/train";
import type { Checkpoint } from "@firn/train/checkpoint";
import { main } from "../../examples/finetune.ts";
import { lostRun, LostRunError, survivingRun } from "../../examples/lost_run.ts";
import { inFolder } from "../data/files.ts";
import { call, small, TEXT } from "./process.ts";

/** Destroys the first device at a submission once something holds; gives back what puts all as it was. */
function losingDevice(when: () => boolean): () => boolean {
  const api = navigator.gpu, { requestAdapter } = api;
  let lost = false;
  api.requestAdapter = async (options) => {
    const adapter = await requestAdapter.call(api, options);
    if (adapter === null) return null;
    const { requestDevice } = adapter;
    adapter.requestDevice = async (wanted) => {
      const device = await requestDevice.call(adapter, wanted), { queue } = device, { submit } = queue;
      queue.submit = (buffers) => {
        if (!lost && when()) {
          lost = true;
          device.destroy();
        }
        submit.call(queue, buffers);
      };
      return device;
    };
    return adapter;
  };
  return () => {
    api.requestAdapter = requestAdapter;
    return lost;
  };
}

Deno.test("finetune opens a lost device once more, and ends its run from the last checkpoint", async () => {
  await inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/text.txt`, TEXT);
    const out = `${folder}/out`, versions = new Set<string>();
    const restore = losingDevice(() => {
      try {
        const { ino, mtime } = Deno.statSync(`${out}/checkpoint.safetensors`);
        versions.add(`${ino} ${mtime?.getTime()}`);
      } catch {
        return false; // There is none yet.
      }
      return versions.size === 2; // That of the beginning, and that of step 2.
    });
    const flags = ["--checkpoint", "2", "--no-sample", "--eval-tokens", "32"];
    try {
      assertEquals(await call(main, small(["--data", `${folder}/text.txt`, "--out", out, ...flags])), null);
    } finally {
      assert(restore());
    }
    assert((await Deno.stat(`${out}/model/model.safetensors`)).isFile);
    const log = await Deno.readTextFile(`${out}/metrics.jsonl`);
    assertEquals([...log.matchAll(/"kind":"step","step":(\d+)/g)].map(([, step]) => step), [..."123456"]);
  });
});

Deno.test("a lost run goes on with its implementation of WebGPU, and with its policy where that is a module", () => {
  const flags = { gpu: "dawn", "unsafe-gpu": true, watch: null, policy: "./p.ts", steps: 5 };
  const request = { checkpoint: null }, run = { folder: "out/1", flags, request };
  const lost = lostRun(new DeviceLostError("gone"), run);
  assert(lost instanceof LostRunError && lost.message === "gone; go on with --resume out/1");
  assertEquals(lost.args, ["--resume", "out/1", "--policy", "./p.ts", "--gpu", "dawn", "--unsafe-gpu"]);
  const failed = new SuppressedError(new Error("not written"), new DeviceLostError("gone"));
  assertEquals(lostRun(failed, { ...run, flags: { policy: "gradES" } })?.args, ["--resume", "out/1"]);
  assertEquals(lostRun(new Error("other"), run), null);
  assertEquals(lostRun(new DeviceLostError("closed", { closed: true }), run), null);
});

Deno.test("a run that was resumed with another rate or place of its data keeps both when its device is lost", async () => {
  const args = ["--resume", "out/1", "--lr", "0.1", "--data", "moved.txt"], seen: (readonly string[])[] = [];
  const run = { folder: "out/1", flags: { steps: 5 }, request: { checkpoint: {} as Checkpoint } };
  const command = (line: readonly string[]): Promise<void> => {
    seen.push(line);
    return seen.length === 1 ? Promise.reject(lostRun(new DeviceLostError("gone"), run)!) : Promise.resolve();
  };
  assertEquals(await call((line) => survivingRun(line, command), args), null);
  assertEquals(seen, [args, args]);
});

Deno.test("a device that is lost before a run began is not said to be lost twice", async () => {
  let runs = 0;
  const command = (): Promise<void> => Promise.reject(new DeviceLostError(`gone ${++runs}`));
  const { message } = await assertRejects(() => survivingRun([], command), DeviceLostError);
  assertEquals(message, "gone 1");
});
