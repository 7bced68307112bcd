/**
 * Answers of a hub: to one who downloads a model, and to one who uploads it.
 *
 * @module
 */

import { writeSafetensors } from "@firn/train/data";
import { downloadModel, pushFolder } from "@firn/train/hub";
import type { Draw } from "../draw.ts";
import { gitHash, sha256 } from "../../hub/fake_hub.ts";
import { mutateJson, mutateJsonFile } from "../mutate_json.ts";
import { type Context, demand, type Format } from "./types.ts";

/** An answer: JSON, or text. */
interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: unknown;
}

/** The answers, by what the addresses of their questions hold. */
type Answers = readonly { readonly to: string; readonly answer: Answer }[];

const ENDPOINT = "http://hub.test", COMMIT = "0123456789abcdef0123456789abcdef01234567";

const SMALL = '{"model_type":"llama"}',
  WEIGHTS = "weights ".repeat(20),
  INDEX = "model.safetensors.index.json";
const INDEX_TEXT = JSON.stringify({ weight_map: { x: "model-00001-of-00001.safetensors" } });

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

const answer = (body: unknown, headers: Readonly<Record<string, string>> = {}): Answer => ({
  status: 200,
  headers,
  body,
});

const entry = (path: string, text: string) => ({
  type: "file",
  path,
  size: text.length,
  oid: gitHash(bytesOf(text)),
});

const INFO = answer({
  _id: "1",
  id: "org/model",
  sha: COMMIT,
  private: false,
  lastModified: "2026-01-01T00:00:00Z",
});

const DOWNLOAD: Answers = [
  { to: "/revision/", answer: INFO },
  {
    to: "cursor=1",
    answer: answer([{
      ...entry("model-00001-of-00001.safetensors", WEIGHTS),
      lfs: { oid: sha256(bytesOf(WEIGHTS)), size: WEIGHTS.length, pointerSize: 130 },
    }]),
  },
  {
    to: "/tree/",
    answer: answer(
      [entry("config.json", SMALL), entry("tokenizer.json", "{}"), entry(INDEX, INDEX_TEXT)],
      { Link: `<${ENDPOINT}/api/models/org/model/tree/main?cursor=1>; rel="next"` },
    ),
  },
  { to: "/config.json", answer: answer(SMALL) },
  { to: "/tokenizer.json", answer: answer("{}") },
  { to: INDEX, answer: answer(INDEX_TEXT) },
  { to: "of-00001.safetensors", answer: answer(WEIGHTS, { "Content-Range": "bytes 0-159/160" }) },
];

const PUSH: Answers = [
  { to: "/revision/", answer: INFO },
  { to: "/tree/", answer: answer([entry("README.md", "# Mine")]) },
  { to: "/README.md", answer: answer("# Mine") },
  {
    to: "/preupload/",
    answer: answer({
      files: [
        { path: "config.json", uploadMode: "regular", shouldIgnore: false },
        { path: "model.safetensors", uploadMode: "lfs", shouldIgnore: false },
      ],
    }),
  },
  {
    to: "/objects/batch",
    answer: answer({
      transfer: "basic",
      objects: [{ oid: "HASH", size: 80, actions: { upload: { href: `${ENDPOINT}/lfs/x`, header: {} } } }],
    }),
  },
  { to: "/lfs/", answer: answer("") },
  { to: "/commit/", answer: answer({ commitOid: COMMIT, commitUrl: `${ENDPOINT}/c`, hookOutput: "" }) },
];

/** Answers as a server could send them, whatever the file says. */
function replaying(answers: unknown): typeof fetch {
  const known = Array.isArray(answers) ? answers : [];
  return (input) => {
    const found = known.find((one) => typeof one?.to === "string" && String(input).includes(one.to))?.answer;
    const { status, headers, body } = found ?? { status: 404, headers: {}, body: { error: "none" } };
    const text = typeof body === "string" ? body : JSON.stringify(body) ?? "";
    const fine = Number.isInteger(status) && status >= 200 && status < 600 &&
      ![204, 205, 304].includes(status);
    const sent = new Headers();
    for (const [name, value] of Object.entries(headers ?? {})) {
      try {
        sent.set(name, String(value));
      } catch { /* no server can send it */ }
    }
    return Promise.resolve(new Response(text, { status: fine ? status : 500, headers: sent }));
  };
}

/** Does something with the answers of a file in place of the network. */
async function answered(path: string, work: () => Promise<void>): Promise<void> {
  const real = globalThis.fetch, text = await Deno.readTextFile(path);
  let answers: unknown = null;
  try {
    answers = JSON.parse(text);
  } catch { /* a hub that answers nothing that it should */ }
  globalThis.fetch = replaying(answers);
  try {
    await work();
  } finally {
    globalThis.fetch = real;
  }
}

/** Damages one answer, mostly in what it says; now and then the text that holds all. */
function mutate(bytes: Uint8Array, draw: Draw): Uint8Array {
  if (draw(10) === 0) return mutateJsonFile(bytes, draw);
  const text = new TextDecoder().decode(bytes), { length } = JSON.parse(text) as unknown[];
  const below = [draw(length), "answer", ...draw(4) > 0 ? ["body"] : []];
  return new TextEncoder().encode(mutateJson(text, draw, below));
}

const OPTIONS = { endpoint: ENDPOINT, offline: false, retryDelay: 0 };

async function loadDownload({ folder }: Context): Promise<void> {
  const cache = `${folder}/cache`;
  await Deno.remove(cache, { recursive: true }).catch(() => {});
  const before = [...Deno.readDirSync(folder)].length;
  try {
    await answered(`${folder}/${download.file}`, async () => {
      const model = await downloadModel("org/model", { ...OPTIONS, cache, token: null });
      demand(model.startsWith(`${cache}/models--org--model/snapshots/`), `it lies in ${model}`);
      for await (const { name } of Deno.readDir(model)) {
        const bytes = await Deno.readFile(`${model}/${name}`), blob = await Deno.realPath(`${model}/${name}`);
        demand(
          [gitHash(bytes), sha256(bytes)].some((hash) => blob.endsWith(`/blobs/${hash}`)),
          `${blob} is another`,
        );
      }
    });
  } finally {
    const count = [...Deno.readDirSync(folder)].filter(({ name }) => name !== "cache").length;
    demand(count === before, "a file outside of the cache");
  }
}

const download: Format = {
  name: "answers to a download",
  count: 240,
  file: "download.json",
  make: ({ folder }) => Deno.writeTextFile(`${folder}/download.json`, JSON.stringify(DOWNLOAD)),
  mutate,
  load: loadDownload,
};

const push: Format = {
  name: "answers to a push",
  count: 160,
  file: "push.json",
  async make({ folder }) {
    await Deno.mkdir(`${folder}/model`);
    await Deno.writeTextFile(`${folder}/model/config.json`, SMALL);
    const tensor = { name: "x", dtype: "F32", shape: [1], data: new Float32Array(1) } as const;
    await writeSafetensors(`${folder}/model/model.safetensors`, [tensor]);
    const hash = sha256(await Deno.readFile(`${folder}/model/model.safetensors`));
    await Deno.writeTextFile(`${folder}/push.json`, JSON.stringify(PUSH).replace("HASH", hash));
  },
  mutate,
  load: ({ folder }) =>
    answered(`${folder}/push.json`, async () => {
      const pushed = await pushFolder(`${folder}/model`, "org/model", {
        ...OPTIONS,
        token: "hf_x",
        card: "# Made",
      });
      demand(/^[0-9a-f]{40}$/.test(pushed.commit), `a commit ${pushed.commit.slice(0, 60)}`);
      demand(pushed.card !== "made" || !pushed.replaced, "a card that somebody wrote was replaced");
    }),
};

const LIST = `cache/models--org--model/.firn/${COMMIT}.json`;

const list: Format = {
  name: "list of a cached commit",
  count: 80,
  file: LIST,
  async make({ folder }) {
    await download.make({ folder, gpu: () => Promise.reject() });
    await loadDownload({ folder, gpu: () => Promise.reject() });
  },
  mutate: mutateJsonFile,
  async load({ folder }) {
    const cache = `${folder}/cache`, model = await downloadModel("org/model", { cache, offline: true });
    demand(model === `${cache}/models--org--model/snapshots/${COMMIT}`, `it lies in ${model}`);
  },
};

/** The formats of a hub and of its cache. */
export const hub: readonly Format[] = [download, push, list];
