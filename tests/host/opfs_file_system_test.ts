/**
 * What a site keeps is whole, also when its tab is closed at any moment.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  adamW,
  defineTraining,
  FileError,
  InputError,
  multiply,
  read,
  sum,
  type Tensor,
  tensor,
  type TrainingState,
} from "@firn/train";
import { checkpointKeeper, loadCheckpoint } from "@firn/train/checkpoint";
import { type FileSystem, lockFolder, opfsFileSystem, replaceFolder } from "@firn/train/data";
import { openTestGpu } from "../reference/open_gpu.ts";
import { type FakeOpfs, fakeOpfs } from "./fake_opfs.ts";

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** All files, content by path. */
async function contentOf(fileSystem: FileSystem, folder = "."): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const { name, kind } of await fileSystem.list(folder)) {
    const path = folder === "." ? name : `${folder}/${name}`;
    if (kind === "folder") Object.assign(found, await contentOf(fileSystem, path));
    else found[path] = text(await fileSystem.read(path));
  }
  return Object.fromEntries(Object.entries(found).toSorted());
}

const OLD = { "model/config.json": "old", "model/deep/x": "old x", "model/y": "old y" };
const NEW = { "model/config.json": "new", "model/deep/x": "new x", "model/y": "new y" };

async function fill(fileSystem: FileSystem, folder: string, word: string): Promise<void> {
  await fileSystem.makeFolder(`${folder}/deep`);
  await fileSystem.write(`${folder}/config.json`, word);
  await fileSystem.write(`${folder}/deep/x`, `${word} x`);
  await fileSystem.write(`${folder}/y`, `${word} y`);
}

/** Replaces a folder again and again, with another operation of the browser failing each time; says what was left. */
async function replaceWithFaults(
  make: () => FakeOpfs,
  how: { readonly name: string; readonly dead: boolean },
) {
  const left = new Set<string>();
  for (let at = 1;; at++) {
    const opfs = make(), fileSystem = opfsFileSystem({ root: opfs.root });
    await replaceFolder("model", (folder) => fill(fileSystem, folder, "old"), { fileSystem });
    opfs.failAt(at, how);
    const before = opfs.operations();
    const done = await replaceFolder("model", (folder) => fill(fileSystem, folder, "new"), { fileSystem })
      .then(
        () => true,
        (error) => {
          assert(error instanceof FileError, `${error}`);
          return false;
        },
      );
    const all = opfs.operations() - before < at;
    opfs.mend();
    // Another tab, later.
    const again = opfsFileSystem({ root: opfs.root });
    await using _lock = await lockFolder(".", { fileSystem: again });
    const { ".firn.lock": _, ...content } = await contentOf(again);
    const seen = JSON.stringify(content);
    if (done) assertEquals(content, NEW);
    else if (seen !== JSON.stringify(NEW)) assertEquals(content, OLD, `operation ${at}`);
    left.add(seen);
    if (all) return { operations: at, left: left.size };
  }
}

for (const moves of [true, false]) {
  const where = moves ? "" : ", where files cannot be moved";
  Deno.test(`a folder of a site is the old or the new one when any operation fails, or the tab is closed there${where}`, async () => {
    for (
      const how of [{ name: "QuotaExceededError", dead: false }, { name: "InvalidStateError", dead: true }]
    ) {
      const { operations, left } = await replaceWithFaults(() => fakeOpfs({ moves }), how);
      assert(operations > 25 && left === 2, `${operations} operations, ${left} ends`);
    }
  });
}

Deno.test("a folder that was half moved when its tab was closed is whole in a tab that is open already", async () => {
  const opfs = fakeOpfs(),
    open = opfsFileSystem({ root: opfs.root }),
    closed = opfsFileSystem({ root: opfs.root });
  await open.makeFolder("model");
  await fill(open, "model", "old");
  // The record takes three operations, the folder one, and the first file one.
  opfs.failAt(6, { name: "InvalidStateError", dead: true });
  await assertRejects(() => closed.rename("model", "there"), FileError);
  opfs.mend();
  assertEquals(await open.stat("model"), null);
  assertEquals(
    Object.keys(await contentOf(open)),
    ["there/config.json", "there/deep/x", "there/y"],
  );
});

Deno.test("an open file of a site that is replaced refuses to be read", async () => {
  const fileSystem = opfsFileSystem({ root: fakeOpfs().root });
  await fileSystem.write("x", "old");
  await using file = await fileSystem.open("x");
  await fileSystem.write("x", "new");
  await assertRejects(() => file.read(0, 3), FileError, 'Cannot read "x" as it must stay as it was opened');
});

Deno.test("a site that has no more room says how much was needed, and keeps the old file alone", async () => {
  const opfs = fakeOpfs(), fileSystem = opfsFileSystem({ root: opfs.root });
  await fileSystem.write("x", "old");
  for (let at = 1; at <= 5; at++) {
    opfs.failAt(at, { name: "QuotaExceededError", dead: false });
    await assertRejects(
      () => fileSystem.write("x", new Uint8Array(3000), { bytes: 3000 }),
      FileError,
      'Cannot write "x" as the disk must have room for 3,000 bytes',
    );
    opfs.mend();
    assertEquals(await contentOf(fileSystem), { x: "old" });
  }
});

Deno.test("locks of a site hold in all tabs, and end with what took them", async () => {
  const { root } = fakeOpfs(), [one, two] = [opfsFileSystem({ root }), opfsFileSystem({ root })];
  await one.makeFolder("out");
  {
    await using _lock = await lockFolder("out", { fileSystem: one });
    await assertRejects(() => lockFolder("out", { fileSystem: two }), FileError, "one run at a time");
  }
  await using _lock = await lockFolder("out", { fileSystem: two });
});

Deno.test("lines that several tabs append are all there", async () => {
  const { root } = fakeOpfs(), tabs = [1, 2, 3].map(() => opfsFileSystem({ root }));
  await Promise.all(tabs.flatMap((tab, i) => [0, 1].map((j) => tab.append("log", `${i}${j}\n`))));
  assertEquals(text(await tabs[0].read("log")).split("\n").toSorted(), [
    "",
    "00",
    "01",
    "10",
    "11",
    "20",
    "21",
  ]);
});

Deno.test("paths of a site do not lead out of its root", async () => {
  const fileSystem = opfsFileSystem({ root: fakeOpfs().root });
  for (const path of ["../x", "a/../../x", "a\\x", "\ud800"]) {
    await assertRejects(() => fileSystem.write(path, ""), FileError, "a path that the system knows");
  }
  await fileSystem.makeFolder("a");
  await assertRejects(() => fileSystem.rename("a", "a/b"), FileError);
  await fileSystem.write("x", "");
  await assertRejects(
    () => fileSystem.rename("a", "x"),
    FileError,
    'Cannot rename "x" as it must be a folder',
  );
});

Deno.test("opfsFileSystem says what a runtime without one lacks", async () => {
  await assertRejects(() => opfsFileSystem().stat("x"), InputError, '"navigator.storage"');
});

Deno.test("training that a reload of its page cut short goes on bit for bit from what its keeper left in the site", async () => {
  await using gpu = await openTestGpu();
  const { root } = fakeOpfs(), path = "runs/run.safetensors", steps = 5;
  const define = () =>
    defineTraining(gpu, ({ w }: { w: Tensor }) => sum(multiply(w, multiply(w, w))), {
      optimizer: adamW({ learningRate: 0.1 }),
      steps,
    });
  const train = async (state: TrainingState<{ w: Tensor }>, until: number, page: FileSystem) => {
    const training = define();
    await using keeper = checkpointKeeper<{ w: Tensor }>(gpu, { path, every: 2, fileSystem: page });
    while (state.step < until) {
      state = await training.next(state, {});
      await keeper.after(state);
    }
    return state;
  };
  const first = opfsFileSystem({ root });
  await first.makeFolder("runs");
  const whole = await train(await define().init({ w: tensor([0.3, -2]) }), steps, first);
  const second = opfsFileSystem({ root });
  const { step, extra: _extra, path: from, ...saved } = await loadCheckpoint(path, { fileSystem: second });
  assertEquals([step, from], [4, path]);
  const again = await train(await define().resume({ ...saved, step }), steps, second);
  assertEquals(await read(gpu, again.params.w), await read(gpu, whole.params.w));
  assertEquals((await loadCheckpoint("runs/run.1.safetensors", { fileSystem: second })).step, 2);
});
