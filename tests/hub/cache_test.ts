/**
 * How downloaded files lie in a cache that others use, too.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { hostFileSystem, memoryFileSystem, pathInFolder } from "@firn/train/data";
import { sha256 } from "./fake_hub.ts";
import { WEIGHTS, withHub } from "./with_hub.ts";

Deno.test("content that Python shares among repositories is linked to, with symbolic links and with hard ones", async () => {
  await withHub(async ({ cache, get }) => {
    const host = hostFileSystem(),
      hard = {
        ...host,
        link: (path: string, { to }: { readonly to: string }) => Deno.link(to, path).then(() => true),
      };
    for (const fileSystem of [host, hard]) {
      await Deno.remove(cache, { recursive: true });
      await Deno.mkdir(`${cache}/models--org--model/blobs`, { recursive: true });
      await Deno.mkdir(`${cache}/blobs/ab`, { recursive: true });
      await Deno.writeFile(`${cache}/blobs/ab/abc`, WEIGHTS);
      await Deno.symlink("../../blobs/ab/abc", `${cache}/models--org--model/blobs/${sha256(WEIGHTS)}`);
      const folder = await get("org/model", { fileSystem });
      const path = await pathInFolder(folder, "model.safetensors", { fileSystem });
      assertEquals(await Deno.readFile(path), WEIGHTS);
    }
  });
});

Deno.test("where links are not permitted, files lie in the snapshot itself", async () => {
  await withHub(async ({ get }) => {
    const fileSystem = memoryFileSystem({ "cache/.keep": "" });
    const folder = await get("org/model", { fileSystem, cache: "cache" });
    assertEquals(await fileSystem.read(`${folder}/model.safetensors`), WEIGHTS);
    assertEquals((await fileSystem.list("cache/models--org--model/blobs")).length, 0);
    assertEquals(await get("org/model", { fileSystem, cache: "cache" }), folder);
  });
});

Deno.test("two downloads at once transfer each file once", async () => {
  await withHub(async ({ hub, get }) => {
    const [one, other] = await Promise.all([get(), get()]);
    assertEquals(one, other);
    assertEquals(hub.asked.filter(({ path }) => path.startsWith("cdn/")).length, 1);
  });
});
