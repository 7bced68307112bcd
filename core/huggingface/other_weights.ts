/**
 * Weights in files of other kinds: what a folder holds in place of safetensors, and the command that converts it.
 *
 * @module
 */

/** A kind of files, and how it is converted. */
interface Kind {
  readonly files: RegExp;
  /** The command, for a folder and the first file of the kind in it. */
  readonly command: (folder: string, file: string) => string;
}

/** The model and its tokenizer, as transformers loads and saves both. */
const convert = (setup: string, options: string) => (folder: string): string =>
  conversion(folder, { setup, options, to: `${folder}-safetensors` });

function conversion(
  from: string,
  { setup = "", options = "", revision = "", to }: {
    readonly setup?: string;
    readonly options?: string;
    readonly revision?: string;
    readonly to: string;
  },
): string {
  return `${setup}python -c "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; ` +
    `M.from_pretrained('${from}'${revision}${options}).save_pretrained('${to}'); ` +
    `T.from_pretrained('${from}'${revision}).save_pretrained('${to}')"`;
}

const OLDER = "pip install 'transformers<5'";

/** The tensors of a pickle as safetensors, in the same folder. */
const unpickle = (target: string) => (folder: string, file: string): string =>
  `python -c "import torch; from safetensors.torch import save_file; ` +
  `s = torch.load('${folder}/${file}', map_location='cpu', weights_only=True); s = s.get('state_dict', s); ` +
  `save_file({k: v.contiguous().clone() for k, v in s.items()}, '${folder}/${target}', {'format': 'pt'})"`;

const KINDS: readonly Kind[] = [
  { files: /^pytorch_model.*\.bin(\.index\.json)?$/, command: convert("", "") },
  { files: /^adapter_model\.bin$/, command: unpickle("adapter_model.safetensors") },
  { files: /^tf_model.*\.h5$/, command: convert(`${OLDER} tensorflow tf-keras && `, ", from_tf=True") },
  {
    files: /^flax_model.*\.msgpack(\.index\.json)?$/,
    command: convert(`${OLDER} flax && `, ", from_flax=True"),
  },
  {
    files: /^consolidated(\.\d+)?\.pth$/,
    command: (folder) =>
      `${OLDER} torch && python -m transformers.models.llama.convert_llama_weights_to_hf ` +
      `--input_dir '${folder}' --output_dir '${folder}-hf'`,
  },
  { files: /\.(pt|pth|ckpt|bin)$/, command: unpickle("model.safetensors") },
];

/**
 * Says what a folder without safetensors holds.
 *
 * @param folder The folder
 * @param names What lies in it
 * @returns What it holds, and the command that converts it; null where it holds no weights of another kind
 */
export function otherWeights(folder: string, names: readonly string[]): string | null {
  for (const { files, command } of KINDS) {
    // Files of a training beside the weights, such as optimizer.pt, are no weights.
    const file = names.toSorted().find((name) => files.test(name) && !isBeside(name));
    if (file === undefined) continue;
    // Names come from strangers: in a command, none may end its quotes.
    const isPlain = /^[\w ./\\:@+,=~-]+$/.test(`${folder}/${file}`);
    return `it has ${file}; convert it${
      isPlain ? `: ${command(folder, file)}` : " to safetensors, under another name"
    }`;
  }
  return null;
}

/** Whether a file is of a training beside the weights. */
const isBeside = (name: string): boolean => /^(training_args|optimizer|scheduler|rng_state)/.test(name);

/**
 * Says what a repository of a hub without safetensors holds.
 *
 * @param options Its name and revision, and paths of its files
 * @returns What it holds, and what converts it; null where it holds no weights of another kind
 */
export function otherRemoteWeights(
  { repository, revision, paths }: {
    readonly repository: string;
    readonly revision: string;
    readonly paths: readonly string[];
  },
): string | null {
  const file = paths.find((path) =>
    /\.(bin|pt|pth|ckpt|h5|msgpack|onnx)$/.test(path) && !isBeside(path.replace(/^.*\//, ""))
  );
  if (file === undefined) return null;
  const how = /^pytorch_model.*\.bin$/.test(file)
    ? `: ${
      conversion(repository, {
        to: `${repository.replace(/^.*\//, "")}-safetensors`,
        revision: revision === "main" ? "" : `, revision='${revision}'`,
      })
    }`
    : " with transformers (from_pretrained, then save_pretrained)";
  return `it has "${file}"; convert it${how}`;
}
