/**
 * The file systems keep one contract; what only one of them does stands at the end.
 *
 * @module
 */

import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { InputError, NotFoundError } from "@firn/train";
import { type FileSystem, hostFileSystem, memoryFileSystem, opfsFileSystem } from "@firn/train/data";
import type { NodeProcess } from "../../core/host/node.ts";
import { lockWay, nodeFiles } from "../../core/host/node_files.ts";
import { systemFileSystem, writeAll } from "../../core/host/system_file_system.ts";
import { inFolder } from "../data/files.ts";
import { fakeOpfs } from "./fake_opfs.ts";

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

async function names(fileSystem: FileSystem, folder: string): Promise<string[]> {
  return (await fileSystem.list(folder)).map(({ name, kind }) => kind === "folder" ? `${name}/` : name)
    .toSorted();
}

async function inMemory(test: (folder: string, fileSystem: FileSystem) => Promise<void>): Promise<void> {
  await test("", memoryFileSystem());
  const fileSystem = memoryFileSystem();
  await fileSystem.makeFolder("some/where", { parents: true });
  await test("some/where/", fileSystem);
}

/** Deno has Node's modules, too. */
const ofNode = (): FileSystem =>
  systemFileSystem(nodeFiles((globalThis as unknown as { readonly process: NodeProcess }).process));

const SYSTEMS: Readonly<Record<string, typeof inMemory>> = {
  hostFileSystem: (test) => inFolder((folder) => test(`${folder}/`, hostFileSystem())),
  "the file system of Node": (test) => inFolder((folder) => test(`${folder}/`, ofNode())),
  memoryFileSystem: inMemory,
  opfsFileSystem: (test) => inSite(test, true),
  "opfsFileSystem where files cannot be moved": (test) => inSite(test, false),
};

async function inSite(
  test: (folder: string, fileSystem: FileSystem) => Promise<void>,
  moves: boolean,
): Promise<void> {
  const { root } = fakeOpfs({ moves }), fileSystem = opfsFileSystem({ root });
  await test("", opfsFileSystem({ root: fakeOpfs({ moves }).root }));
  await fileSystem.makeFolder("some/where", { parents: true });
  await test("some/where/", fileSystem);
}

for (const [name, using] of Object.entries(SYSTEMS)) {
  Deno.test(`${name} writes text, bytes and pieces, over an old file too, and appends`, async () => {
    await using(async (folder, fileSystem) => {
      const path = `${folder}x`;
      await fileSystem.write(path, "ä");
      assertEquals(await fileSystem.read(path), new Uint8Array([0xc3, 0xa4]));
      await fileSystem.write(path, new Uint8Array([1, 2]));
      assertEquals(await fileSystem.read(path), new Uint8Array([1, 2]));
      await fileSystem.write(path, [new Uint8Array([3]), new Uint8Array(), new Uint8Array([4])]);
      assertEquals(await fileSystem.read(path), new Uint8Array([3, 4]));
      await fileSystem.append(path, "5");
      await fileSystem.append(`${folder}y`, "new");
      assertEquals(await fileSystem.read(path), new Uint8Array([3, 4, 0x35]));
      assertEquals(text(await fileSystem.read(`${folder}y`)), "new");
      assertEquals(await names(fileSystem, folder), ["x", "y"]);
    });
  });

  Deno.test(`${name} keeps the old file and nothing else when writing fails`, async () => {
    await using(async (folder, fileSystem) => {
      await fileSystem.write(`${folder}x`, "old");
      async function* failing() {
        yield await Promise.resolve(new Uint8Array([1]));
        throw new RangeError("full disk");
      }
      await assertRejects(() => fileSystem.write(`${folder}x`, failing()), RangeError, "full disk");
      assertEquals(text(await fileSystem.read(`${folder}x`)), "old");
      await fileSystem.makeFolder(`${folder}taken`);
      await assertRejects(() => fileSystem.write(`${folder}taken`, "new"));
      assertEquals(await names(fileSystem, folder), ["taken/", "x"]);
    });
  });

  Deno.test(`${name} reads parts of an open file, several at once, also after another took its path`, async () => {
    await using(async (folder, fileSystem) => {
      const path = `${folder}x`;
      await fileSystem.write(path, "0123456789");
      await using file = await fileSystem.open(path);
      if (!name.startsWith("opfs")) await fileSystem.write(path, "other");
      assertEquals(file.size, 10);
      const parts = await Promise.all([[0, 2], [4, 7], [8, 20], [12, 13]].map(([a, b]) => file.read(a, b)));
      assertEquals(parts.map(text), ["01", "456", "89", ""]);
    });
  });

  Deno.test(`${name} names what does not exist`, async () => {
    await using(async (folder, fileSystem) => {
      for (const work of [() => fileSystem.read(`${folder}no`), () => fileSystem.open(`${folder}no`)]) {
        await assertRejects(work, NotFoundError, `Cannot open "${folder}no" as there is no such file`);
      }
      await assertRejects(() => fileSystem.list(`${folder}no`), NotFoundError, "no such folder");
      await assertRejects(() => fileSystem.write(`${folder}no/x`, "new"));
      await assertRejects(() => fileSystem.rename(`${folder}no`, `${folder}x`));
      await assertRejects(() => fileSystem.remove(`${folder}no`));
      assertEquals(await fileSystem.stat(`${folder}no`), null);
    });
  });

  Deno.test(`${name} makes, renames and removes folders with what is in them`, async () => {
    await using(async (folder, fileSystem) => {
      await assertRejects(() => fileSystem.makeFolder(`${folder}a/b`));
      await fileSystem.makeFolder(`${folder}a/b`, { parents: true });
      await fileSystem.makeFolder(`${folder}a/b/`, { parents: true });
      await assertRejects(() => fileSystem.makeFolder(`${folder}a`));
      await fileSystem.write(`${folder}a/b/x`, "deep");
      assertEquals((await fileSystem.stat(`${folder}a/b`))?.kind, "folder");
      assertEquals(await fileSystem.stat(`${folder}a/b/x`), { kind: "file", size: 4 });
      await fileSystem.rename(`${folder}a`, `${folder}c`);
      assertEquals(text(await fileSystem.read(`${folder}c/b/x`)), "deep");
      await fileSystem.write(`${folder}file`, "in the way");
      await assertRejects(() => fileSystem.rename(`${folder}c`, `${folder}file`));
      await fileSystem.remove(`${folder}c`);
      assertEquals(await names(fileSystem, folder), ["file"]);
    });
  });
}

Deno.test("memoryFileSystem gives and keeps copies", async () => {
  const bytes = new Uint8Array([1]), fileSystem = memoryFileSystem({ "a/x": bytes });
  bytes[0] = 2;
  (await fileSystem.read("a/x"))[0] = 3;
  await using file = await fileSystem.open("a/x");
  assertEquals(await file.read(0, 1), new Uint8Array([1]));
});

Deno.test("writeAll goes on until every byte is written", async () => {
  const written: number[] = [];
  const write = (bytes: Uint8Array) =>
    Promise.resolve(written.push(...bytes.subarray(0, 2)) && Math.min(2, bytes.length));
  await writeAll({ write }, new Uint8Array([1, 2, 3, 4, 5]));
  assertEquals(written, [1, 2, 3, 4, 5]);
});

Deno.test("systemFileSystem removes its temporary file when renaming fails", async () => {
  await inFolder(async (folder) => {
    const rename: typeof Deno.rename = () => Promise.reject(new RangeError("in use"));
    const fileSystem = systemFileSystem({ ...Deno, rename });
    await assertRejects(() => fileSystem.write(`${folder}/x`, "new"), RangeError, "in use");
    assertEquals(await names(fileSystem, folder), []);
  });
});

Deno.test("hostFileSystem is that of Node where there is no Deno, and a runtime without either has none", () => {
  const own = ["Deno", "process"].map((name) =>
    [name, Object.getOwnPropertyDescriptor(globalThis, name)!] as const
  );
  const { defineProperty } = Object, scope = globalThis as Record<string, unknown>;
  try {
    delete scope.Deno;
    hostFileSystem();
    delete scope.process;
    assertThrows(hostFileSystem, InputError, 'give a "fileSystem" of your own');
  } finally {
    for (const [name, property] of own) defineProperty(globalThis, name, property);
  }
});

Deno.test("a lock of Node is one of the system on each platform", () => {
  assertEquals(lockWay("linux"), { program: "flock" });
  assertEquals(lockWay("darwin"), { flags: 0x24 });
  assertEquals(lockWay("win32"), { flags: 0x10000000 });
});
