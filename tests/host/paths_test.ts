/**
 * Paths, names, moves and locks of Windows, on any system.
 *
 * @module
 */

import { assertEquals, assertRejects } from "@std/assert";
import { FileError, InputError } from "@firn/train";
import { decodeImage, lockFolder, memoryFileSystem, parentOf, slashed, trimmedPath } from "@firn/train/data";
import { fileUrl } from "../../examples/policies.ts";
import { endSignals } from "../../examples/signals.ts";
import { machineError } from "../../core/host/file_errors.ts";
import { fileAddress, isAbsolute, isWindowsName } from "../../core/host/paths.ts";
import { moved, systemFileSystem } from "../../core/host/system_file_system.ts";
import { isSafePath } from "../../core/hub/name.ts";
import { inFolder } from "../data/files.ts";

const WINDOWS = { windows: true }, UNIX = { windows: false };

Deno.test("paths of Windows are taken apart at both separators, those of other systems at one", () => {
  assertEquals(
    ["D:\\runs\\a\\", "C:\\", "C:", "\\\\host\\share\\a", "\\\\?\\C:\\a"].map((path) =>
      trimmedPath(path, WINDOWS)
    ),
    ["D:/runs/a", "C:/", "C:", "//host/share/a", "\\\\?\\C:\\a"],
  );
  assertEquals(
    ["D:\\runs\\a", "C:\\a", "a\\b\\", "a", "\\a"].map((path) => parentOf(path, WINDOWS)),
    ["D:/runs", "C:/", "a", ".", "/"],
  );
  assertEquals(["a\\b", "a/b", "/a"].map((path) => parentOf(path, UNIX)), [".", "a", "/"]);
  assertEquals([slashed("a\\b/c", WINDOWS), slashed("a\\b/c", UNIX)], ["a/b/c", "a\\b/c"]);
  const roots = ["C:\\a", "C:/a", "\\a", "/a", "\\\\host\\a", "C:a", "a"];
  assertEquals(roots.map((path) => isAbsolute(path, WINDOWS)), [true, true, true, true, true, false, false]);
  assertEquals(roots.map((path) => isAbsolute(path, UNIX)), [false, false, false, true, false, false, false]);
});

Deno.test("the address of a module keeps drives, shares and odd characters", () => {
  const href = (path: string, windows: boolean): string => fileUrl(path, { windows }).href;
  assertEquals(href("C:\\a b\\p#1.ts", true), "file:///C:/a%20b/p%231.ts");
  assertEquals(href("\\\\host\\share\\p.ts", true), "file://host/share/p.ts");
  assertEquals(href("/a b/50%?.ts", false), "file:///a%20b/50%25%3F.ts");
});

Deno.test("a file that is sent to a hub is named with its drive or its share", () => {
  assertEquals(fileAddress("/a b/#c", UNIX).href, "file:///a%20b/%23c");
  assertEquals(
    ["C:\\a b\\%c/d", "\\\\host\\share\\a"].map((path) => fileAddress(path, WINDOWS).href),
    ["file:///C:/a%20b/%25c/d", "file://host/share/a"],
  );
});

Deno.test("no name of a stranger is a device, a stream or an ending that Windows drops", () => {
  const odd = ["CON", "nul.txt", "com1", "LPT9.json", "aux ", "a.", "a ", "a:b", "a?", "a|b", "x\ty", "b\\c"];
  assertEquals(odd.filter(isWindowsName), []);
  const plain = [
    "config.json",
    "console.txt",
    "com10",
    "nullable",
    ".gitattributes",
    "a b",
    "ä",
    "auxiliary.bin",
  ];
  assertEquals(plain.filter((name) => !isWindowsName(name)), []);
  assertEquals([isSafePath("data/nul.txt", WINDOWS), isSafePath("data/nul.txt", UNIX)], [false, true]);
});

Deno.test("on Windows a file that another program has open for a moment is moved once it is free", async () => {
  const tries = (fails: number, code: string) => {
    let count = 0;
    const rename = (): Promise<void> =>
      ++count > fails ? Promise.resolve() : Promise.reject(Object.assign(new Error("busy"), { code }));
    return { rename, count: () => count };
  };
  const places = { from: "a", to: "b" };
  const scanned = tries(2, "EACCES");
  await moved(scanned, { ...places, ...WINDOWS });
  assertEquals(scanned.count(), 3);
  for (const [code, options] of [["EACCES", UNIX], ["ENOENT", WINDOWS]] as const) {
    const refused = tries(2, code);
    await assertRejects(() => moved(refused, { ...places, ...options }), Error, "busy");
    assertEquals(refused.count(), 1);
  }
});

Deno.test("a folder that is taken is named as such where the system lets nobody read the lock", async () => {
  const files = memoryFileSystem({ "out/a": "" });
  const locked = {
    ...files,
    read: (path: string) => Promise.reject(new FileError("locked", { path, code: "UNKNOWN" })),
  };
  await using _lock = await lockFolder("out", { fileSystem: files });
  await assertRejects(
    () => lockFolder("out", { fileSystem: locked }),
    FileError,
    "one run at a time uses a folder: another process has it",
  );
});

Deno.test("a lock of Node on Windows, whose file nobody else may open or remove, is taken, and free after its end", async () => {
  await inFolder(async (folder) => {
    let held = 0;
    const busy = (): never => {
      throw Object.assign(new Error("busy"), { code: "EBUSY" });
    };
    const windows = systemFileSystem({
      ...Deno,
      async open(path, options) {
        if (held > 0) busy();
        const file = await Deno.open(path, options);
        held++;
        return {
          ...{ read: (bytes) => file.read(bytes), write: (bytes) => file.write(bytes) },
          ...{ seek: (place) => file.seek(place, Deno.SeekMode.Start), stat: () => file.stat() },
          ...{ truncate: (size) => file.truncate(size), sync: () => file.sync() },
          tryLock: (exclusive) => file.tryLock(exclusive),
          close() {
            held--;
            file.close();
          },
        };
      },
      remove: (path, options) => held > 0 ? busy() : Deno.remove(path, options),
    });
    const path = `${folder}/.firn.lock`;
    for (let run = 0; run < 2; run++) {
      const lock = await windows.lock(path, "run");
      assertEquals(await windows.lock(path, "other"), null);
      await lock![Symbol.asyncDispose]();
    }
  });
});

Deno.test("a program ends at Ctrl-C and SIGTERM, on Windows at Ctrl-C and Ctrl-Break", () => {
  assertEquals([endSignals("linux"), endSignals("darwin"), endSignals("windows")], [
    ["SIGINT", "SIGTERM"],
    ["SIGINT", "SIGTERM"],
    ["SIGINT", "SIGBREAK"],
  ]);
});

Deno.test("what Node's permissions refuse says which flag allows it", () => {
  const cause = Object.assign(new Error("Access to this API has been restricted"), {
    code: "ERR_ACCESS_DENIED",
  });
  const error = machineError(cause, { action: "open", path: "a.txt" }) as FileError;
  assertEquals([error.code, error.message], [
    "NotCapable",
    'Cannot open "a.txt" as Node must be allowed to use it: it is not; ' +
    'run with --allow-fs-read="a.txt" or --allow-fs-write="a.txt"',
  ]);
});

Deno.test("an image is refused as such where the runtime decodes none", async () => {
  const own = Object.getOwnPropertyDescriptor(globalThis, "createImageBitmap")!,
    png = [0x89, 0x50, 0x4e, 0x47];
  delete (globalThis as { createImageBitmap?: unknown }).createImageBitmap;
  try {
    await assertRejects(() => decodeImage(Uint8Array.from(png)), InputError, "Node does not");
  } finally {
    Object.defineProperty(globalThis, "createImageBitmap", own);
  }
});
