/** Links of folders that came from elsewhere. */

import { assertEquals, assertRejects } from "@std/assert";
import { DataError, NotFoundError } from "@firn/train";
import { pathInFolder } from "@firn/train/data";
import { inFolder } from "../data/files.ts";

Deno.test("pathInFolder refuses links and names that lead out of a folder, and takes those of the cache of Hugging Face", async () => {
  await inFolder(async (root) => {
    const cache = `${root}/models--a--b`, snapshot = `${cache}/snapshots/main`;
    for (const folder of [`${root}/model`, `${cache}/blobs`, `${root}/blobs/ab`, snapshot]) {
      await Deno.mkdir(folder, { recursive: true });
    }
    for (const file of [`${root}/secret`, `${root}/model/own`, `${cache}/blobs/x`, `${cache}/other`]) {
      await Deno.writeTextFile(file, "x");
    }
    // What several repositories share.
    await Deno.writeTextFile(`${root}/blobs/ab/abc`, "x");
    await Deno.symlink("../../blobs/ab/abc", `${cache}/blobs/shared`);
    await Deno.symlink("../../blobs/shared", `${snapshot}/shared`);
    await Deno.symlink("../blobs/ab/abc", `${root}/model/shared`);
    const links = [["../secret", "model/out"], ["own", "model/in"], ["../..", "model/up"]];
    const cached = [["../../blobs/x", "x"], ["../../other", "other"], [`${root}/secret`, "out"]];
    for (const [to, at] of links) await Deno.symlink(to, `${root}/${at}`);
    for (const [to, at] of cached) await Deno.symlink(to, `${snapshot}/${at}`);
    for (const name of ["own", "in"]) {
      assertEquals(await pathInFolder(`${root}/model/`, name), `${root}/model/${name}`);
    }
    for (const name of ["x", "shared"]) {
      assertEquals(await pathInFolder(snapshot, name), `${snapshot}/${name}`);
    }
    for (const name of ["shared", "out", "up", "../secret", `${root}/secret`, ""]) {
      await assertRejects(() => pathInFolder(`${root}/model`, name), DataError, "must lie in it");
    }
    for (const name of ["other", "out"]) {
      await assertRejects(() => pathInFolder(snapshot, name), DataError, "it is a link to");
    }
    await assertRejects(() => pathInFolder(`${root}/model`, "none"), NotFoundError, "none");
  });
});
