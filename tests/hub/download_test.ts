/**
 * Downloads from a hub on loopback: what arrives, and what goes wrong on the way.
 *
 * @module
 */

import { assertEquals, assertRejects } from "@std/assert";
import { DataError, FileError, HubError, InputError, NotFoundError } from "@firn/train";
import { type FileSystem, hostFileSystem, memoryFileSystem, opfsFileSystem } from "@firn/train/data";
import { askAll } from "../../core/hub/ask.ts";
import { bringFile, type Transfer } from "../../core/hub/transfer.ts";
import { fakeOpfs } from "../host/fake_opfs.ts";
import { faultyFiles } from "../host/faulty_deno.ts";
import { addCommit, cut, type FakeHub, gitHash, sha256, TOKEN } from "./fake_hub.ts";
import { CONFIG, FILES, WEIGHTS, withHub } from "./with_hub.ts";

const NEEDED = [
  "1_Pooling/config.json",
  "README.md",
  "additional_chat_templates/tools.jinja",
  "config.json",
  "model.safetensors",
  "tokenizer.json",
];

async function filesIn(folder: string, prefix = ""): Promise<string[]> {
  const names: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (isDirectory) names.push(...await filesIn(`${folder}/${name}`, `${prefix}${name}/`));
    else names.push(prefix + name);
  }
  return names.sort();
}

/** Makes the first answers of the store break off. */
function cutFirst(hub: FakeHub, times: number, after: number): void {
  let cuts = 0;
  hub.fault = async ({ path }, answer) =>
    path.startsWith("cdn/") && cuts++ < times ? await cut(await answer(), after) : null;
}

Deno.test("a model comes into the cache in the layout of Python's library, and no more of it than is needed", async () => {
  await withHub(async ({ commit, cache, get }) => {
    const seen: { done: number; total: number }[] = [];
    const folder = await get("org/model", { onProgress: (progress) => seen.push(progress) });
    assertEquals(folder, `${cache}/models--org--model/snapshots/${commit}`);
    assertEquals(await filesIn(folder), NEEDED);
    assertEquals(await Deno.readFile(`${folder}/model.safetensors`), WEIGHTS);
    const link = await Deno.readLink(`${folder}/model.safetensors`);
    assertEquals(link, `../../blobs/${sha256(WEIGHTS)}`);
    const config = await Deno.readLink(`${folder}/1_Pooling/config.json`);
    assertEquals(config, `../../../blobs/${gitHash(new TextEncoder().encode("{}"))}`);
    assertEquals(await Deno.readTextFile(`${cache}/models--org--model/refs/main`), commit);
    const left = (await filesIn(cache)).filter((name) => /incomplete|\.lock$|\.tmp$/.test(name));
    assertEquals(left, []);
    assertEquals(seen.at(-1)!.done, seen.at(-1)!.total);
  });
});

Deno.test("a model comes into the files of a site, and is there without a hub after a reload", async () => {
  await withHub(async ({ hub, commit, get }) => {
    const { root } = fakeOpfs(), fileSystem = opfsFileSystem({ root });
    const folder = await get("org/model", { fileSystem, cache: "models" });
    assertEquals(folder, `models/models--org--model/snapshots/${commit}`);
    assertEquals(await fileSystem.read(`${folder}/model.safetensors`), WEIGHTS);
    assertEquals(new TextDecoder().decode(await fileSystem.read(`${folder}/config.json`)), CONFIG);
    hub.asked.length = 0;
    const again = opfsFileSystem({ root });
    assertEquals(await get("org/model", { fileSystem: again, cache: "models" }), folder);
    assertEquals(hub.asked, []);
  });
});

Deno.test("what the cache has needs no hub: a branch, a commit, a file that Python brought", async () => {
  await withHub(async ({ hub, commit, cache, get }) => {
    const folder = await get();
    hub.asked.length = 0;
    assertEquals(await get(), folder);
    assertEquals(await get(`org/model@${commit}`), folder);
    assertEquals(await get("org/model", { offline: true }), folder);
    await Deno.remove(`${cache}/models--org--model/.firn`, { recursive: true });
    assertEquals(await get(), folder);
    assertEquals(hub.asked, []);
    await assertRejects(() => get("org/model@v2", { offline: true }), NotFoundError, 'the revision "v2"');
    await assertRejects(() => get("org/other", { offline: true }), NotFoundError, "HF_HUB_OFFLINE");
    await Deno.remove(`${folder}/tokenizer.json`);
    await get();
    assertEquals(hub.asked.length > 0, true);
  });
});

Deno.test("a branch that moved on is asked for anew on request, and only what differs is transferred", async () => {
  await withHub(async ({ hub, get }) => {
    const first = await get();
    const commit = addCommit(hub, "models/org/model", { files: { ...FILES, "config.json": "{}\n" } });
    assertEquals(await get(), first);
    hub.asked.length = 0;
    const second = await get("org/model", { refresh: true });
    assertEquals(second.endsWith(commit), true);
    assertEquals(hub.asked.filter(({ path }) => path.includes("/resolve/")).map(({ path }) => path), [
      `/org/model/resolve/${commit}/config.json`,
    ]);
    assertEquals(await get(), second);
  });
});

Deno.test("a transfer that breaks off goes on where it stopped, in the same run and in the next", async () => {
  await withHub(async ({ hub, cache, get }) => {
    cutFirst(hub, 2, 70_000);
    const folder = await get();
    assertEquals(await Deno.readFile(`${folder}/model.safetensors`), WEIGHTS);
    const ranges = hub.asked.filter(({ path }) => path.startsWith("cdn/")).map(({ range }) => range);
    assertEquals(ranges, [null, "bytes=70000-", "bytes=140000-"]);
    await Deno.remove(`${cache}/models--org--model`, { recursive: true });
    cutFirst(hub, 1, 70_000);
    const { fault } = hub;
    hub.fault = async (one, answer) =>
      one.range !== null ? new Response(null, { status: 503 }) : await fault(one, answer);
    await assertRejects(() => get(), HubError, "503");
    assertEquals(
      (await Deno.stat(`${cache}/models--org--model/blobs/${sha256(WEIGHTS)}.incomplete`)).size,
      70_000,
    );
    await assertRejects(() => Deno.stat(`${folder}/model.safetensors`), Deno.errors.NotFound);
    [hub.fault, hub.asked.length] = [() => null, 0];
    await get();
    assertEquals(hub.asked.find(({ path }) => path.startsWith("cdn/"))?.range, "bytes=70000-");
    assertEquals(await Deno.readFile(`${folder}/model.safetensors`), WEIGHTS);
  });
});

Deno.test("a connection that ends too early again and again is given up, and names the hub", async () => {
  await withHub(async ({ hub, get }) => {
    hub.fault = ({ path }) => path.startsWith("cdn/") ? new Response(new Uint8Array()) : null;
    await assertRejects(() => get(), HubError, "end too early");
  });
});

Deno.test("content of another checksum is refused, large or small, and nothing of it stays", async () => {
  const cases = [
    [/\/resolve\/[^/]+\/config\.json$/, '"config.json" must have the SHA-1 of git'],
    [/^cdn/, '"model.safetensors" must have the SHA-256'],
  ] as const;
  await withHub(async ({ hub, cache, get }) => {
    for (const [at, message] of cases) {
      hub.fault = async ({ path }, answer) => {
        if (!at.test(path)) return null;
        const bytes = new Uint8Array(await (await answer()).arrayBuffer());
        bytes[5] ^= 1;
        return new Response(bytes);
      };
      await assertRejects(() => get(), DataError, message);
      await assertRejects(() => get("org/model", { offline: true }), NotFoundError);
    }
    assertEquals((await filesIn(`${cache}/models--org--model/blobs`)).includes(sha256(WEIGHTS)), false);
    hub.fault = () => null;
    assertEquals(await Deno.readFile(`${await get()}/model.safetensors`), WEIGHTS);
  });
});

Deno.test("what is left of another file is dropped when the checksum tells", async () => {
  await withHub(async ({ cache, get }) => {
    const blobs = `${cache}/models--org--model/blobs`;
    await Deno.mkdir(blobs, { recursive: true });
    await Deno.writeFile(`${blobs}/${sha256(WEIGHTS)}.incomplete`, new Uint8Array(1000));
    const folder = await get();
    assertEquals(await Deno.readFile(`${folder}/model.safetensors`), WEIGHTS);
  });
});

Deno.test("more bytes than the hub told are refused", async () => {
  await withHub(async ({ hub, get }) => {
    hub.fault = ({ path }) => path.startsWith("cdn/") ? new Response(new Uint8Array(300_001)) : null;
    await assertRejects(() => get(), DataError, "more than the 300000 bytes");
  });
});

Deno.test("an answer that breaks off or falls silent is asked for again, and a hub that does so each time is named", async () => {
  await withHub(async ({ hub, get }) => {
    let broken = 2;
    hub.fault = async ({ path }, answer) =>
      path.includes("/tree/") && broken-- > 0 ? await cut(await answer(), 9) : null;
    await get();
    assertEquals(broken < 0, true);
    hub.fault = async ({ path }, answer) => path.includes("/tree/") ? await cut(await answer(), 9) : null;
    await assertRejects(() => get("org/model", { refresh: true }), HubError, "must be reachable");
    hub.fault = () =>
      new Response(new ReadableStream({ start: (stream) => stream.enqueue(new Uint8Array(9)) }));
    const request = { url: `${hub.endpoint}/x`, limit: 99, silence: 20 };
    const silent = () =>
      askAll({ endpoint: hub.endpoint, token: null, retryDelay: 1 }, request, { action: "ask" });
    await assertRejects(silent, HubError, "it stops in the middle of its answer");
  });
});

Deno.test("a busy hub is asked again, but not for ever", async () => {
  await withHub(async ({ hub, get }) => {
    let busy = 3;
    hub.fault = () =>
      busy-- > 0 ? new Response(null, { status: 429, headers: { "Retry-After": "0" } }) : null;
    await get();
    hub.fault = () => new Response("down", { status: 503 });
    hub.asked.length = 0;
    await assertRejects(() => get("org/model", { refresh: true }), HubError, "it answers 503");
    assertEquals(hub.asked.length, 6);
  });
});

Deno.test("what does not exist, is private or is gated says so, and what a folder of that name would be", async () => {
  await withHub(async ({ hub, get }) => {
    addCommit(hub, "models/org/secret", { files: FILES, access: "private" });
    addCommit(hub, "models/org/gated", { files: FILES, access: "gated" });
    const stranger = await assertRejects(() => get("org/none"), HubError, "it answers 401");
    assertEquals(stranger.message.includes("there is no folder of that name"), true);
    assertEquals(stranger.message.includes("HF_TOKEN"), true);
    await assertRejects(() => get("org/none", { token: TOKEN }), NotFoundError, "Repository not found");
    await assertRejects(() => get("org/model@v2"), NotFoundError, "must have that revision");
    await assertRejects(() => get("org/secret"), HubError, "401");
    await assertRejects(() => get("org/gated"), HubError, "accepted its terms");
    await get("org/secret", { token: TOKEN });
    await get("org/gated", { token: TOKEN });
    await assertRejects(() => get("no-folder"), InputError, "owner/name on a hub");
    await assertRejects(() => get("org/model/../x"), InputError);
  });
});

Deno.test("the token goes to the hub, not to where the hub leads", async () => {
  await withHub(async ({ hub, get }) => {
    // A list that goes on elsewhere.
    hub.fault = ({ path }) =>
      path.startsWith("/api/") && path.includes("/tree/")
        ? Response.json([], { headers: { Link: `<${hub.cdn}/api/models/org/model/tree/x>; rel="next"` } })
        : null;
    await assertRejects(() => get("org/model", { token: TOKEN }));
    hub.fault = () => null;
    await get("org/model", { token: TOKEN });
    const tokens = (
      at: RegExp,
    ) => [...new Set(hub.asked.filter(({ path }) => at.test(path)).map(({ token }) => token))];
    assertEquals(tokens(/^\//), [TOKEN]);
    assertEquals(tokens(/^cdn/), [null]);
  });
});

Deno.test("a full disk names the file and the room that it needs, and the next run goes on", async () => {
  await withHub(async ({ hub, get }) => {
    const weights = new Uint8Array(5_000_000), host = hostFileSystem();
    addCommit(hub, "models/org/large", { files: { "config.json": CONFIG, "model.safetensors": weights } });
    let appends = 0;
    const fileSystem: FileSystem = {
      ...host,
      async append(path, content, options) {
        // The second part of the weights is more than there is room for.
        if (!path.includes(sha256(weights)) || ++appends !== 2) {
          return await host.append(path, content, options);
        }
        await faultyFiles("ENOSPC", 2).fileSystem.append(path, content, options);
      },
    };
    const rest = (5_000_000 - 2 ** 22).toLocaleString("en-US");
    const large = () => get("org/large", { fileSystem });
    const error = await assertRejects(large, FileError, `room for ${rest} bytes`);
    assertEquals([error.code, error.message.includes(".incomplete")], ["ENOSPC", false]);
    await large();
    const ranges = hub.asked.filter(({ path }) => path.startsWith("cdn/")).map(({ range }) => range);
    assertEquals(ranges, [null, `bytes=${2 ** 22}-`]);
  });
});

Deno.test("shards come as the index lists them, and an index that names what is not there is refused", async () => {
  await withHub(async ({ hub, get }) => {
    const index = (map: object): string => JSON.stringify({ weight_map: map });
    const files = {
      "config.json": CONFIG,
      "a.safetensors": WEIGHTS,
      "b.safetensors": "b",
      "c.safetensors": "c",
    };
    const at = (name: string, map: object) =>
      addCommit(hub, `models/org/${name}`, {
        files: { ...files, "model.safetensors.index.json": index(map) },
      });
    at("sharded", { x: "a.safetensors", y: "b.safetensors", z: "a.safetensors" });
    assertEquals(await filesIn(await get("org/sharded")), [
      "a.safetensors",
      "b.safetensors",
      "config.json",
      "model.safetensors.index.json",
    ]);
    at("short", { x: "d.safetensors" });
    await assertRejects(() => get("org/short"), NotFoundError, '"d.safetensors"');
    at("out", { x: "../../a.safetensors" });
    await assertRejects(() => get("org/out"), DataError, "beside it");
  });
});

Deno.test("an adapter comes with its configuration, and without what a trainer left beside it", async () => {
  await withHub(async ({ hub, get }) => {
    const files = { "adapter_config.json": "{}", "adapter_model.safetensors": WEIGHTS, "README.md": "x" };
    const beside = {
      "adapter_model.bin": "pickle",
      "optimizer.pt": "x",
      "checkpoint-9/adapter_config.json": "{}",
    };
    addCommit(hub, "models/org/adapter", { files: { ...files, ...beside } });
    assertEquals(await filesIn(await get("org/adapter")), Object.keys(files).toSorted());
    hub.asked.length = 0;
    await get("org/adapter");
    assertEquals(hub.asked, []);
  });
});

Deno.test("a model without safetensors says what to do, before anything is transferred", async () => {
  await withHub(async ({ hub, get }) => {
    addCommit(hub, "models/org/old", { files: { "config.json": CONFIG, "pytorch_model.bin": "x" } });
    await assertRejects(() => get("org/old"), NotFoundError, "convert it: python -c");
    await assertRejects(
      () => get("org/old@main"),
      NotFoundError,
      "M.from_pretrained('org/old').save_pretrained(",
    );
    const beside = { "config.json": CONFIG, "training_args.bin": "x", "onnx/model.onnx": "x" };
    addCommit(hub, "models/org/old", { files: beside, revision: "v2" });
    await assertRejects(() => get("org/old@v2"), NotFoundError, 'it has "onnx/model.onnx"; convert it with');
    addCommit(hub, "models/org/small-gguf", { files: { "q8.gguf": WEIGHTS } });
    await assertRejects(() => get("org/small-gguf"), NotFoundError, '"org/small-gguf/q8.gguf"');
    assertEquals(hub.asked.some(({ path }) => path.includes("resolve")), false);
    assertEquals((await get("org/small-gguf/q8.gguf")).endsWith("/q8.gguf"), true);
  });
});

Deno.test("a path, a hash or a commit that leads out of the cache is refused", async () => {
  await withHub(async ({ hub, cache, get }) => {
    const file = (path: string, oid = "0".repeat(40)) => ({ type: "file", path, size: 1, oid });
    const usual = [file("config.json"), file("model.safetensors")];
    const list = (...files: object[]): void => {
      hub.fault = ({ path }) => /\/tree\//.test(path) ? Response.json([...files, ...usual]) : null;
    };
    list(file("LICENSE", "../".repeat(14).slice(0, 40)));
    await assertRejects(() => get(), DataError, "path, size and hash");
    assertEquals(await filesIn(cache), []);
    // No rule of choice lets such a path through: it is never asked for.
    list(file("additional_chat_templates/../../../x.jinja"), file("/etc/passwd"), file("..\\config.json"));
    await assertRejects(() => get(), DataError, "it sends more than");
    assertEquals(hub.asked.some(({ path }) => /x\.jinja|passwd/.test(path)), false);
    hub.fault = ({ path }) =>
      /\/revision\//.test(path) ? Response.json({ id: "org/model", sha: "../../x" }) : null;
    await assertRejects(() => get(), DataError, "40 digits");
  });
  const place = { fileSystem: memoryFileSystem(), root: "cache/models--a--b", locks: "cache/.locks" };
  const bad = ["../x", "a/../../x", "/x", "a\\x", "c:x", "", "a//b", "a\0"];
  for (const path of bad) {
    const transfer = { question: { action: "download" } } as Transfer;
    await assertRejects(
      () => bringFile(place, { path, size: 1, hash: "0" }, transfer),
      DataError,
      "lead out of it",
    );
  }
});

Deno.test("a local folder of that name wins", async () => {
  await withHub(async ({ hub, get }) => {
    const fileSystem = memoryFileSystem({ "org/model/config.json": "{}" });
    assertEquals(await get("org/model", { fileSystem }), "org/model");
    assertEquals(hub.asked, []);
  });
});
