/** The example `finetune` on a device that is lost. */

import { assert, assertEquals } from "@std/assert";
import { DeviceLostError } from "@firn/train";
import { main } from "../../examples/finetune.ts";
import { lostRun, LostRunError } from "../../examples/lost_run.ts";
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
  const lost = lostRun(new DeviceLostError("gone"), { folder: "out/1", flags });
  assert(lost instanceof LostRunError && lost.message === "gone; go on with --resume out/1");
  assertEquals(lost.args, ["--resume", "out/1", "--policy", "./p.ts", "--gpu", "dawn", "--unsafe-gpu"]);
  const failed = new SuppressedError(new Error("not written"), new DeviceLostError("gone"));
  assertEquals(lostRun(failed, { folder: "a", flags: { policy: "gradES" } })?.args, ["--resume", "a"]);
  assertEquals(lostRun(new Error("other"), { folder: "a", flags }), null);
  assertEquals(lostRun(new DeviceLostError("closed", { closed: true }), { folder: "a", flags }), null);
});
