/**
 * A hub on loopback with a model, and a cache.
 *
 * @module
 */

import { downloadModel, type DownloadOptions } from "@firn/train/hub";
import { inFolder } from "../data/files.ts";
import { addCommit, type FakeHub, startHub } from "./fake_hub.ts";

/** The weights of the model. */
export const WEIGHTS = Uint8Array.from({ length: 300_000 }, (_, i) => i % 251);
/** Its configuration. */
export const CONFIG = '{"model_type":"llama"}\n';

/** What its repository holds. */
export const FILES = {
  ".gitattributes": "",
  "README.md": "---\nlicense: mit\n---\n",
  "config.json": CONFIG,
  "tokenizer.json": "{}",
  "additional_chat_templates/tools.jinja": "{{ x }}",
  "1_Pooling/config.json": "{}",
  "model.safetensors": WEIGHTS,
  "pytorch_model.bin": "pickle",
  "modeling_evil.py": "import os",
  "onnx/model.onnx": "onnx",
};

/** Runs a test with a hub that has `org/model`, and a cache of its own. */
export async function withHub(
  test: (context: {
    readonly hub: FakeHub;
    readonly commit: string;
    readonly cache: string;
    readonly get: (name?: string, options?: DownloadOptions) => Promise<string>;
  }) => Promise<void>,
): Promise<void> {
  await using hub = startHub({ page: 4 });
  const commit = addCommit(hub, "models/org/model", { files: FILES });
  await inFolder((cache) => {
    const get = (name = "org/model", options: DownloadOptions = {}): Promise<string> =>
      downloadModel(name, {
        cache,
        endpoint: hub.endpoint,
        token: null,
        offline: false,
        retryDelay: 1,
        ...options,
      });
    return test({ hub, commit, cache, get });
  });
}
