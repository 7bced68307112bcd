/**
 * Event files of TensorBoard, byte for byte. `tests/tensorboard/read.sh` has the real one read them.
 *
 * @module
 */

import { assertEquals, assertMatch } from "@std/assert";
import { memoryFileSystem } from "@firn/train/data";
import { tensorBoardLogger } from "@firn/train/report";

/** What `RecordWriter` of PyPI's tensorboard 2.21.0 makes of the same three events. */
const GOLDEN =
  "1800000000000000a37f4b22090000102cc44ada411a0d627261696e2e4576656e743a326ac6672810000000000000" +
  "0095fbfe18090000102cc44ada4110ad023a0208016dcfe39a4b0000000000000087099996090000102cc44ada41108080808080202" +
  "a390a110a0a747261696e2f6c6f737315000020400a240a0673616d706c6542100807120412020801420657616c20c3a94a080a060a" +
  "0474657874d854bfb6";

Deno.test("tensorBoardLogger writes the bytes of TensorBoard's own writer: version, restart, scalar and text", async () => {
  const fileSystem = memoryFileSystem();
  const logger = tensorBoardLogger("a/b", { from: 300, now: () => 1764430000250, fileSystem });
  await logger([{ step: 2 ** 40, numbers: { "train/loss": 2.5 }, texts: { sample: "Wal é" } }]);
  const [{ name }, ...others] = await fileSystem.list("a/b");
  assertMatch(name, /^events\.out\.tfevents\.1764430000\.firn\.[0-9a-f]{8}$/);
  assertEquals(others, []);
  assertEquals((await fileSystem.read(`a/b/${name}`)).toHex(), GOLDEN);
});

Deno.test("tensorBoardLogger of a new run says of no restart, and appends to its file", async () => {
  const fileSystem = memoryFileSystem(), logger = tensorBoardLogger("a", { now: () => 1e12, fileSystem });
  await logger([{ step: 1, numbers: { x: NaN }, texts: {} }]);
  const [{ name }] = await fileSystem.list("a"),
    path = `a/${name}`,
    { size } = (await fileSystem.stat(path))!;
  // Two records of 16 bytes more than their events: time and version; time, step and summary.
  assertEquals(size, 2 * 16 + 9 + 15 + 9 + 2 + 2 + 2 + 3 + 5);
  await logger([{ step: 2, numbers: { x: 1 }, texts: {} }]);
  assertEquals((await fileSystem.stat(path))!.size, size + 16 + 9 + 2 + 2 + 2 + 3 + 5);
});
