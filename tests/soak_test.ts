import { assertEquals } from "@std/assert";
import { inFolder } from "./data/files.ts";
import { startDeno } from "./examples/process.ts";
import { growing, growth, type Sample } from "./soak/flat.ts";

const FLAT: Sample = {
  step: 0,
  objects: 1e7,
  code: 1e6,
  external: 1e6,
  rss: 3e8,
  buffers: 183,
  device: 1e6,
  handles: 27,
};

/** Samples every 100 steps. */
function samples(change: (step: number) => Partial<Sample>, steps = 4000): Sample[] {
  return Array.from({ length: steps / 100 }, (_, i) => {
    const step = 100 * (i + 1);
    return { ...FLAT, step, ...change(step) };
  });
}

Deno.test("growing names what grows after the warm-up, and nothing that does not", () => {
  assertEquals(growing(samples(() => ({}))), []);
  assertEquals(growing(samples((step) => ({ objects: FLAT.objects + 65 * step }))), ["objects"]);
  assertEquals(growing(samples((step) => ({ objects: FLAT.objects + 63 * step }))), []);
  assertEquals(growing(samples((step) => ({ buffers: 183 + Math.floor(step / 1000) }))), ["buffers"]);
  assertEquals(growing(samples((step) => ({ handles: step < 1000 ? step : 1000 }))), []);
  // A few samples out of line are no growth.
  assertEquals(growing(samples((step) => ({ device: step % 900 === 0 ? 2e6 : 1e6 }))), []);
  assertEquals(growing(samples((step) => ({ rss: 1e6 * step }), 400)), []);
  assertEquals(growing(samples((step) => ({ device: step }), 400)), ["device"]);
  assertEquals(growing([FLAT]), ["buffers", "device", "handles"]);
  assertEquals(growth(samples((step) => ({ code: 3 * step })), "code"), 3000);
});

Deno.test(
  "a training of 400 steps keeps no buffer and no handle",
  { ignore: Deno.build.os !== "linux" },
  async () => {
    await inFolder(async (folder) => {
      const allowed = ["--allow-read", "--allow-write", "--allow-run=sh"];
      const process = startDeno(
        ["--v8-flags=--expose-gc", ...allowed, "tests/soak.ts", "--steps", "400"],
        folder,
      );
      const { code, stdout, stderr } = await process.output(), text = new TextDecoder();
      assertEquals([code, text.decode(stdout).trimEnd().split("\n").at(-1), text.decode(stderr)], [
        0,
        "flat",
        "",
      ]);
    });
  },
);
