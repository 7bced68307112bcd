/**
 * A file system of a site as Chromium has it: handles, files that cannot be read once they change, content that takes its place when
 * writing ends. Any of its operations can fail.
 *
 * @module
 */

import type { OpfsFile, OpfsFolder, OpfsWritable } from "@firn/train/data";

interface Stored {
  bytes: Uint8Array<ArrayBuffer>;
  version: number;
}
type Node = Stored | Map<string, Node>;

/** A file system that fails where it is told. */
export interface FakeOpfs {
  readonly root: OpfsFolder;
  /** How many operations that change something were begun. */
  operations(): number;
  /** Lets that operation fail, counted from now; with `dead`, all that follow fail too, as those of a closed tab do. */
  failAt(operation: number, how: { readonly name: string; readonly dead: boolean }): void;
  /** Lets all operations work. */
  mend(): void;
  /** Whether files can be moved. */
  readonly moves: boolean;
}

/** Makes one. */
export function fakeOpfs({ moves = true }: { readonly moves?: boolean } = {}): FakeOpfs {
  let count = 0, at = Infinity, name = "", dead = false;
  const change = (): void => {
    count++;
    if (count === at || dead && count > at) throw new DOMException("it was told to", name);
  };
  return {
    root: folderOf(new Map(), "", { change, moves }),
    moves,
    operations: () => count,
    failAt(operation, how) {
      at = count + operation;
      ({ name, dead } = how);
    },
    mend: () => void (at = Infinity),
  };
}

interface Machine {
  change(): void;
  readonly moves: boolean;
}

const trees = new WeakMap<object, Map<string, Node>>();

function folderOf(tree: Map<string, Node>, name: string, machine: Machine): OpfsFolder {
  const find = <T extends Node>(key: string, is: (node: Node) => node is T, make: (() => T) | false): T => {
    if (key === "" || key === "." || key === ".." || /[/\\]/.test(key)) {
      throw new TypeError("Name is not allowed.");
    }
    const there = tree.get(key);
    if (there !== undefined) {
      if (!is(there)) throw new DOMException("another type", "TypeMismatchError");
      return there;
    }
    if (make === false) throw new DOMException("not found", "NotFoundError");
    machine.change();
    const made = make();
    tree.set(key, made);
    return made;
  };
  const folder: OpfsFolder = {
    name,
    // deno-lint-ignore require-await
    async getFileHandle(key, { create = false } = {}) {
      find(key, isFile, create && (() => ({ bytes: new Uint8Array(), version: 0 })));
      return fileOf(tree, key, machine);
    },
    // deno-lint-ignore require-await
    async getDirectoryHandle(key, { create = false } = {}) {
      return folderOf(find(key, isTree, create && (() => new Map())), key, machine);
    },
    // deno-lint-ignore require-await
    async removeEntry(key, { recursive = false } = {}) {
      const there = find(key, (node): node is Node => node !== undefined, false);
      if (isTree(there) && there.size > 0 && !recursive) {
        throw new DOMException("not empty", "InvalidModificationError");
      }
      machine.change();
      tree.delete(key);
    },
    async *values() {
      for (const [key, node] of [...tree]) {
        await Promise.resolve();
        yield { name: key, kind: isTree(node) ? "directory" as const : "file" as const };
      }
    },
  };
  trees.set(folder, tree);
  return folder;
}

const isTree = (node: Node): node is Map<string, Node> => node instanceof Map;
const isFile = (node: Node): node is Stored => !(node instanceof Map);

function fileOf(tree: Map<string, Node>, name: string, machine: Machine): OpfsFile {
  const stored = (): Stored => {
    const there = tree.get(name);
    if (there === undefined) throw new DOMException("not found", "NotFoundError");
    return there as Stored;
  };
  return {
    name,
    // deno-lint-ignore require-await
    async getFile() {
      const own = stored();
      return changing(own, () => tree.get(name));
    },
    // deno-lint-ignore require-await
    async createWritable({ keepExistingData = false } = {}): Promise<OpfsWritable> {
      machine.change();
      let bytes = keepExistingData ? stored().bytes.slice() : new Uint8Array(), cursor = 0, open = true;
      const swap = `${name}.crswap`;
      tree.set(swap, { bytes: new Uint8Array(), version: 0 });
      return {
        // deno-lint-ignore require-await
        async write(chunk) {
          machine.change();
          const next = new Uint8Array(Math.max(bytes.length, cursor + chunk.length));
          next.set(bytes);
          next.set(chunk, cursor);
          [bytes, cursor] = [next, cursor + chunk.length];
        },
        seek: (position) => Promise.resolve(void (cursor = position)),
        // deno-lint-ignore require-await
        async close() {
          machine.change();
          tree.set(name, { bytes, version: stored().version + 1 });
          tree.delete(swap);
          open = false;
        },
        // deno-lint-ignore require-await
        async abort() {
          if (!open) throw new TypeError("it has ended");
          machine.change();
          tree.delete(swap);
        },
      };
    },
    ...machine.moves && {
      // deno-lint-ignore require-await
      async move(folder: OpfsFolder, key: string) {
        machine.change();
        const own = stored(), target = trees.get(folder)!;
        if (target.get(key) instanceof Map) throw new DOMException("a folder", "InvalidModificationError");
        tree.delete(name);
        target.set(key, { ...own, version: own.version + 1 });
      },
    },
  };
}

/** A blob that can be read until what it was taken from changes. */
function changing(own: Stored, now: () => Node | undefined): Blob {
  const wrap = (bytes: Uint8Array<ArrayBuffer>): Blob => {
    const read = <T>(get: () => T) => ({
      // deno-lint-ignore require-await
      async value() {
        if (now() !== own) throw new DOMException("it has changed", "NotReadableError");
        return get();
      },
    });
    return Object.defineProperties(new Blob([bytes]), {
      slice: { value: (begin: number, end: number) => wrap(bytes.slice(begin, end)) },
      text: read(() => new TextDecoder().decode(bytes)),
      arrayBuffer: read(() => bytes.slice().buffer),
    });
  };
  return wrap(own.bytes);
}
