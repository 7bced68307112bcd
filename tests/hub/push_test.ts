/**
 * Uploads to a hub on loopback: what goes, what stays, and whose card is there.
 *
 * @module
 */

import { assertEquals, assertRejects } from "@std/assert";
import { DataError, HubError, InputError, NotFoundError } from "@firn/train";
import { writeSafetensors } from "@firn/train/data";
import { downloadModel, pushFolder, type PushOptions } from "@firn/train/hub";
import { inFolder } from "../data/files.ts";
import { addCommit, type FakeHub, startHub, TOKEN } from "./fake_hub.ts";

const MADE = "---\nlicense: mit\n---\n\n<!-- Made by Firn from the log of the run. -->\n\n# whales\n";

/** Runs a test with a hub and the folder of a model. */
async function withFolder(
  test: (context: {
    readonly hub: FakeHub;
    readonly folder: string;
    readonly push: (name?: string, options?: PushOptions) => ReturnType<typeof pushFolder>;
    /** Files of the last commit of `me/whales`. */
    readonly remote: (revision?: string) => ReadonlyMap<string, Uint8Array>;
  }) => Promise<void>,
): Promise<void> {
  await using hub = startHub();
  await inFolder(async (folder) => {
    const tensor = { name: "x", dtype: "F32", shape: [2], data: new Float32Array([1, 2]) } as const;
    await writeSafetensors(`${folder}/model.safetensors`, [tensor]);
    await Deno.writeTextFile(`${folder}/config.json`, '{"model_type":"llama"}');
    await Deno.writeTextFile(`${folder}/tokenizer.json`, "{}");
    await Deno.writeTextFile(`${folder}/.env`, "SECRET=1");
    await Deno.mkdir(`${folder}/notes`);
    await test({
      hub,
      folder,
      push: (name = "me/whales", options = {}) =>
        pushFolder(folder, name, {
          endpoint: hub.endpoint,
          token: TOKEN,
          offline: false,
          retryDelay: 1,
          ...options,
        }),
      remote(revision = "main") {
        const { commits, refs } = hub.repositories.get("models/me/whales")!;
        return commits.get(refs.get(revision)!)!;
      },
    });
  });
}

const textOf = (bytes: Uint8Array | undefined): string => new TextDecoder().decode(bytes);

Deno.test("a pushed model comes back bit for bit, with its card, and without what is no part of it", async () => {
  await withFolder(async ({ hub, folder, push, remote }) => {
    const seen: number[] = [];
    const pushed = await push("me/whales", { card: MADE, onProgress: ({ done }) => seen.push(done) });
    assertEquals(pushed.files, ["README.md", "config.json", "model.safetensors", "tokenizer.json"]);
    assertEquals([pushed.left, pushed.card, pushed.url], [
      [".env", "notes"],
      "made",
      `${hub.endpoint}/me/whales`,
    ]);
    assertEquals([...remote().keys()].includes(".env"), false);
    assertEquals(seen.at(-1)! > 0, true);
    await inFolder(async (cache) => {
      const back = await downloadModel("me/whales", {
        cache,
        endpoint: hub.endpoint,
        token: null,
        offline: false,
      });
      for (const name of ["model.safetensors", "config.json", "tokenizer.json"]) {
        assertEquals(await Deno.readFile(`${back}/${name}`), await Deno.readFile(`${folder}/${name}`));
      }
      assertEquals(await Deno.readTextFile(`${back}/README.md`), MADE);
    });
    const tokens = hub.asked.filter(({ method }) => method === "PUT").map(({ token }) => token);
    assertEquals(tokens, [null], "the store gets no token of the hub");
    hub.asked.length = 0;
    await push("me/whales", { card: MADE });
    assertEquals(hub.asked.filter(({ method }) => method === "PUT"), []);
  });
});

Deno.test("a card that somebody wrote is never replaced in silence, neither in the folder nor in the repository", async () => {
  await withFolder(async ({ hub, folder, push, remote }) => {
    addCommit(hub, "models/me/whales", { files: { "README.md": "# Mine" } });
    const kept = await push("me/whales", { card: MADE });
    assertEquals([kept.card, kept.replaced, textOf(remote().get("README.md"))], ["kept", false, "# Mine"]);
    const asked = await push("me/whales", { card: MADE, replaceCard: true });
    assertEquals([asked.card, asked.replaced, textOf(remote().get("README.md"))], ["made", true, MADE]);
    const again = await push("me/whales", { card: MADE + "more\n" });
    assertEquals([again.card, again.replaced, textOf(remote().get("README.md"))], [
      "made",
      false,
      MADE + "more\n",
    ]);
    await Deno.writeTextFile(`${folder}/README.md`, "# Of the folder");
    const own = await push("me/whales", { card: MADE });
    assertEquals([own.card, own.replaced, textOf(remote().get("README.md"))], [
      "folder",
      false,
      "# Of the folder",
    ]);
    await Deno.writeTextFile(`${folder}/README.md`, "# Another");
    assertEquals((await push("me/whales", { card: MADE })).replaced, true);
  });
});

Deno.test("weights that would be loaded in place of the new ones are removed", async () => {
  await withFolder(async ({ hub, push, remote }) => {
    const old = [
      "model-00001-of-00002.safetensors",
      "model.safetensors.index.json",
      "adapter_config.json",
      "adapter_model.safetensors",
    ];
    const files = Object.fromEntries([...old, "notes.md"].map((name) => [name, name]));
    addCommit(hub, "models/me/whales", { files });
    assertEquals((await push()).removed.toSorted(), old.toSorted());
    assertEquals([...remote().keys()].toSorted(), [
      "config.json",
      "model.safetensors",
      "notes.md",
      "tokenizer.json",
    ]);
  });
});

Deno.test("an adapter or a GGUF file leaves the weights of the model in the repository alone", async () => {
  await withFolder(async ({ hub, folder, push, remote }) => {
    const there = ["adapter_model-00001-of-00002.safetensors", "config.json", "model.safetensors"];
    addCommit(hub, "models/me/whales", { files: Object.fromEntries(there.map((name) => [name, name])) });
    await Deno.mkdir(`${folder}/gguf`);
    await Deno.writeTextFile(`${folder}/gguf/whales.gguf`, "GGUF");
    const options = { endpoint: hub.endpoint, token: TOKEN, offline: false, retryDelay: 1 };
    assertEquals((await pushFolder(`${folder}/gguf`, "me/whales", options)).removed, []);
    assertEquals([...remote().keys()].toSorted(), [...there, "whales.gguf"]);
    for (const name of ["config.json", "model.safetensors"]) await Deno.remove(`${folder}/${name}`);
    await Deno.writeTextFile(`${folder}/adapter_config.json`, "{}");
    await writeSafetensors(`${folder}/adapter_model.safetensors`, []);
    assertEquals((await push()).removed, [there[0]]);
    assertEquals(textOf(remote().get("model.safetensors")), "model.safetensors");
  });
});

Deno.test("shards go with their index, and other weights that the folder holds stay", async () => {
  await withFolder(async ({ folder, push }) => {
    await Deno.rename(`${folder}/model.safetensors`, `${folder}/part.safetensors`);
    await Deno.copyFile(`${folder}/part.safetensors`, `${folder}/checkpoint.safetensors`);
    const index = { weight_map: { x: "part.safetensors" } };
    await Deno.writeTextFile(`${folder}/model.safetensors.index.json`, JSON.stringify(index));
    const { files, left } = await push();
    assertEquals(files, [
      "config.json",
      "model.safetensors.index.json",
      "part.safetensors",
      "tokenizer.json",
    ]);
    assertEquals(left, [".env", "checkpoint.safetensors", "notes"]);
    await Deno.remove(`${folder}/part.safetensors`);
    await assertRejects(() => push(), NotFoundError, 'it lacks "part.safetensors"');
  });
});

Deno.test("a repository is made private on request, and a public one is not taken for it; a branch is made", async () => {
  await withFolder(async ({ hub, push, remote }) => {
    await push("me/whales", { private: true });
    assertEquals(hub.repositories.get("models/me/whales")!.access, "private");
    await push("me/whales@dev");
    assertEquals([remote("dev").has("config.json"), remote("dev") === remote()], [true, false]);
    addCommit(hub, "models/me/open", { files: {} });
    await assertRejects(() => push("me/open", { private: true }), InputError, "it exists and is public");
  });
});

Deno.test("a push that cannot be right says why, and leaves the repository alone", async () => {
  await withFolder(async ({ hub, folder, push }) => {
    await assertRejects(() => push("me/whales", { token: null }), InputError, "set HF_TOKEN");
    await assertRejects(() => push("me/whales", { offline: true }), InputError, "HF_HUB_OFFLINE");
    await assertRejects(() => push("me/whales", { token: "hf_wrong" }), HubError, "it answers 401");
    await assertRejects(() => push("whales"), InputError, "owner/name");
    await assertRejects(() => push("me/whales/x"), InputError, "too much");
    await push();
    const { commits } = hub.repositories.get("models/me/whales")!, count = commits.size;
    // Something else was committed between the look and the commit.
    hub.fault = ({ path }) => {
      if (path.includes("/preupload/")) addCommit(hub, "models/me/whales", { files: { x: "y" } });
      return null;
    };
    await assertRejects(() => push(), HubError, "changed meanwhile");
    assertEquals(commits.size, count + 1);
    hub.fault = ({ method }) => method === "PUT" ? new Response("no", { status: 400 }) : null;
    hub.store.clear();
    await assertRejects(() => push(), HubError, "400");
    await Deno.writeTextFile(`${folder}/model.safetensors`, "damaged");
    await assertRejects(() => push(), DataError);
    await Deno.remove(`${folder}/model.safetensors`);
    await assertRejects(() => push(), NotFoundError, "weights in safetensors");
    await Deno.symlink("/etc/hostname", `${folder}/LICENSE`);
    await Deno.writeTextFile(`${folder}/adapter_config.json`, "{}");
    await writeSafetensors(`${folder}/adapter_model.safetensors`, []);
    await assertRejects(() => push(), DataError, "must lie in it");
    assertEquals(commits.size, count + 1);
  });
});
