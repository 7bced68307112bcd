/**
 * Downloads in processes of their own, with the permissions that the launcher gives: several at once, and one that is killed.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { inFolder } from "../data/files.ts";
import { startProgram } from "../examples/process.ts";
import { addCommit, type FakeHub, sha256, startHub } from "./fake_hub.ts";

const WEIGHTS = new Uint8Array(9_000_000).fill(7);

function startDownload(hub: FakeHub, cache: string): Deno.ChildProcess {
  const standIns = import.meta.resolve("@std/assert").startsWith("file:");
  const map = standIns ? ["--import-map=tests/stand_ins/import_map.json"] : [];
  const env = { HF_HUB_CACHE: cache, HF_ENDPOINT: hub.endpoint, HF_TOKEN: "hf_x" };
  const flags = [
    `--allow-env=HF_HUB_OFFLINE,${Object.keys(env)}`,
    "--allow-net=127.0.0.1",
    `--allow-write=${cache}`,
  ];
  const set = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const script = [
    "--no-prompt",
    "--no-check",
    ...map,
    ...flags,
    `--allow-read=.,${cache}`,
    "examples/download.ts",
  ];
  return startProgram(["env", ...set, Deno.execPath(), "run", ...script, "org/model"], cache);
}

Deno.test("of two processes one downloads and both have it; what one that was killed left is gone on with", async () => {
  await using hub = startHub();
  const commit = addCommit(hub, "models/org/model", {
    files: { "config.json": "{}", "model.safetensors": WEIGHTS },
  });
  const stored = () => hub.asked.filter(({ path }) => path.startsWith("cdn/"));
  await inFolder(async (cache) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const blob = `${cache}/models--org--model/blobs/${sha256(WEIGHTS)}`;
    let first = true;
    hub.fault = ({ path }) => {
      if (!path.startsWith("cdn/") || !first) return null;
      first = false;
      // More than is written at a time, then nothing.
      const body = new ReadableStream<Uint8Array>({
        start(controller) {
          controller.enqueue(WEIGHTS.subarray(0, 5_000_000));
        },
        cancel: () => resolve(),
      });
      return new Response(body);
    };
    const killed = startDownload(hub, cache), ended = killed.output();
    while (((await Deno.stat(`${blob}.incomplete`).catch(() => null))?.size ?? 0) < 4_000_000) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    killed.kill("SIGKILL");
    await Promise.all([ended, promise]);
    const size = (await Deno.stat(`${blob}.incomplete`)).size;
    const outcomes = await Promise.all([1, 2].map(() => startDownload(hub, cache).output()));
    const text = new TextDecoder();
    for (const { code, stdout, stderr } of outcomes) {
      assertEquals([code, text.decode(stderr)], [0, ""]);
      assertEquals(text.decode(stdout).trim().split("\n").slice(-2), [
        `org/model@${commit}`,
        `${cache}/models--org--model/snapshots/${commit}`,
      ]);
    }
    assertEquals(stored().map(({ range }) => range), [null, `bytes=${size}-`]);
    const there = await Deno.readFile(`${cache}/models--org--model/snapshots/${commit}/model.safetensors`);
    assertEquals(sha256(there), sha256(WEIGHTS));
  });
});
