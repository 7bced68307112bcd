/**
 * Names of repositories, and where the environment says that a hub and its cache are.
 *
 * @module
 */

import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { InputError } from "@firn/train";
import { memoryFileSystem } from "@firn/train/data";
import { isModelName, pinnedName } from "@firn/train/hub";
import { hubName, isHubName } from "../../core/hub/name.ts";
import { library } from "../../core/hub/repository.ts";
import { cacheFolder, hubOf, isOffline } from "../../core/hub/settings.ts";

Deno.test("names are owner/name, with a path, with a revision; nothing else can be one", () => {
  const of = (text: string) => {
    const { repository, path, revision } = hubName(text, "model");
    return [repository, path, revision];
  };
  assertEquals(of("HuggingFaceTB/SmolLM2-135M"), ["HuggingFaceTB/SmolLM2-135M", "", "main"]);
  assertEquals(of("a/b@refs/pr/1"), ["a/b", "", "refs/pr/1"]);
  assertEquals(of("a/b.c_d/x/y z.gguf@v1"), ["a/b.c_d", "x/y z.gguf", "v1"]);
  const bad = [
    "",
    "a",
    "a/",
    "/a/b",
    "./a/b",
    "../a",
    "a/..",
    "a/b/../c",
    "a//b",
    "a/b/",
    "a/b@",
    "a/b@../x",
  ];
  bad.push(
    "a/b@-x",
    "a/b@x y",
    "a/b@x/../y",
    "-a/b",
    "a/b-",
    "a/b.git",
    "a/b--c",
    "a\\b/c",
    "a/b\n",
    "a:b/c",
  );
  bad.push(`a/${"b".repeat(100)}`, "a/b@x//y", "a/b/c\\d", "a/b/c:d", "https://huggingface.co/a/b");
  assertEquals(bad.filter(isHubName), []);
  assertThrows(() => hubName("a\u001b[31m", "dataset"), InputError, "dataset");
  const models = ["a/b", "a/b/c.gguf", "a/b/c", "a/b/model.safetensors", "out/finetune-1/model"];
  assertEquals(models.map(isModelName), [true, true, false, false, false]);
});

Deno.test("a name is pinned to the commit that the cache has of it; a local folder keeps its own", () => {
  const commit = "0123456789abcdef0123456789abcdef01234567";
  assertEquals(pinnedName("a/b@main", `/c/models--a--b/snapshots/${commit}`), `a/b@${commit}`);
  assertEquals(
    pinnedName("a/b/q.gguf", `/c/models--a--b/snapshots/${commit}/q.gguf`),
    `a/b/q.gguf@${commit}`,
  );
  assertEquals(pinnedName("a/b", "a/b"), "a/b");
});

const environmentOf = (variables: Record<string, string>) => (name: string) =>
  Promise.resolve(variables[name]);

Deno.test("the environment says where the cache is, as for Python's library", async () => {
  const cases: readonly (readonly [Record<string, string>, string])[] = [
    [{ HOME: "/h" }, "/h/.cache/huggingface/hub"],
    [{ HOME: "/h", XDG_CACHE_HOME: "/x" }, "/x/huggingface/hub"],
    [{ HOME: "/h", HF_HOME: "/f" }, "/f/hub"],
    [{ HOME: "/h", HF_HOME: "~/f" }, "/h/f/hub"],
    [{ HOME: "/h", HF_HOME: "/f", HF_HUB_CACHE: "/c/" }, "/c"],
  ];
  for (const [variables, expected] of cases) {
    assertEquals(await cacheFolder({ environment: environmentOf(variables) }), expected);
  }
  assertEquals(await cacheFolder({ cache: "/own", environment: environmentOf({ HF_HOME: "/f" }) }), "/own");
  await assertRejects(() => cacheFolder({ environment: environmentOf({}) }), InputError, "set HF_HUB_CACHE");
});

Deno.test("the environment says who asks which hub, and whether it may be asked", async () => {
  const fileSystem = memoryFileSystem({ "/f/token": "hf_file\n", "/t": "hf_other", "/empty": "\n" });
  const hub = (variables: Record<string, string>) =>
    hubOf({ fileSystem, environment: environmentOf({ HOME: "/h", ...variables }) });
  assertEquals(await hub({}), { endpoint: "https://huggingface.co", token: null, retryDelay: 500 });
  const tokens: readonly Record<string, string>[] = [{ HF_TOKEN: " hf_env " }, { HF_HOME: "/f" }, {
    HF_TOKEN_PATH: "/t",
  }, {
    HF_TOKEN_PATH: "/empty",
  }];
  assertEquals(await Promise.all(tokens.map(async (one) => (await hub(one)).token)), [
    "hf_env",
    "hf_file",
    "hf_other",
    null,
  ]);
  assertEquals(
    (await hub({ HF_ENDPOINT: "https://mirror.example/hub/" })).endpoint,
    "https://mirror.example/hub",
  );
  for (const endpoint of ["mirror", "file:///etc", "https://u:p@mirror.example", "http://m?x=1"]) {
    await assertRejects(() => hub({ HF_ENDPOINT: endpoint }), InputError, "HF_ENDPOINT");
  }
  await assertRejects(() => hub({ HF_TOKEN: "two words" }), InputError, "one word");
  const offline = (value: string) => isOffline({ environment: environmentOf({ HF_HUB_OFFLINE: value }) });
  assertEquals(await Promise.all(["1", "ON", "yes", "true", "0", "no", ""].map(offline)), [
    ...[true, true, true, true],
    ...[false, false, false],
  ]);
});

Deno.test("the client that is loaded is the one that deno.json pins", async () => {
  const { imports } = JSON.parse(await Deno.readTextFile("deno.json"));
  const source = await Deno.readTextFile("core/hub/repository.ts");
  assertEquals(source.includes(`"${imports["@huggingface/hub"]}"`), true);
  assertEquals(typeof (await library()).listFiles, "function");
});
