/**
 * Configurations of all families.
 *
 * @module
 */

import type { Gpu, Model } from "@firn/train";
import { headOf } from "@firn/train/models";
import { loadModel } from "@firn/train/hub";
import { type Draw, oneOf } from "../draw.ts";
import { mutateJson } from "../mutate_json.ts";
import { checkSaved, useModel } from "./model.ts";
import type { Context, Format } from "./types.ts";

const FIXTURES = new URL("../../fixtures/", import.meta.url);

/** A folder of `transformers` for each. */
const FAMILIES = [
  "gemma",
  "gemma2",
  "gemma3_text",
  "gpt2",
  "gpt_neox",
  "granite",
  "mistral",
  "olmo2",
  "phi3",
  "qwen2",
]
  .concat(["qwen3", "smollm3", "bert", "bert-tokens", "distilbert", "roberta", "vit"]);

const FILE = "input";

const configOf = (family: string): string =>
  Deno.readTextFileSync(new URL(`${family}/config.json`, FIXTURES));

/** The damaged file begins with a line that names the family: its weights are those of the folder. */
const inputOf = (family: string, config: string): string => `${family}\n${config}`;

async function load(context: Context): Promise<void> {
  const [family, ...rest] = (await Deno.readTextFile(`${context.folder}/${FILE}`)).split("\n");
  const folder = `${context.folder}/${family}`, gpu: Gpu = await context.gpu();
  await Deno.writeTextFile(`${folder}/config.json`, rest.join("\n"));
  const model: Model = await loadModel(gpu, folder);
  if (headOf(model).task === "nextToken") await useModel(context, model);
  await checkSaved(gpu, model, new Map());
}

/** The format of configurations. */
export const families: Format = {
  name: "config.json of 17 kinds",
  count: 340,
  file: FILE,
  async make({ folder }) {
    for (const family of FAMILIES) {
      await Deno.mkdir(`${folder}/${family}`);
      const name = `${family}/model.safetensors`;
      await Deno.copyFile(new URL(name, FIXTURES), `${folder}/${name}`);
    }
    await Deno.writeTextFile(`${folder}/${FILE}`, inputOf(FAMILIES[0], configOf(FAMILIES[0])));
  },
  mutate(_, draw: Draw) {
    const family = oneOf(draw, FAMILIES);
    return new TextEncoder().encode(inputOf(family, mutateJson(configOf(family), draw)));
  },
  load,
};
