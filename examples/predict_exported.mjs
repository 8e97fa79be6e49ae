// Decide about PNG pictures with an exported detector, in Node.js.
//
//   npm install onnxruntime-node pngjs
//   draem-jax export --workdir=runs/quickstart --out=exported/
//   node examples/predict_exported.mjs exported/ photo.png
//
// The pictures must have the size that the networks see: other sizes are resized as manifest.json
// says, which is left to a library of your choice.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.cwd(), "package.json")); // where npm has installed
const ort = require("onnxruntime-node");
const { PNG } = require("pngjs");

const [folder, ...paths] = process.argv.slice(2);
const read = (name) => JSON.parse(readFileSync(join(folder, name), "utf8"));
const [, height, width] = read("manifest.json").input.shape;
const { alpha, normal_scores: normal } = read("thresholds.json");
const model = await ort.InferenceSession.create(join(folder, "model.onnx"));

console.log("picture,score,p_value,anomalous");
for (const path of paths) {
  const png = PNG.sync.read(readFileSync(path)); // always RGBA of 8 bits
  if (png.width !== width || png.height !== height) {
    throw new Error(`${path} is ${png.width} x ${png.height}; resize it to ${width} x ${height}`);
  }
  const rgb = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) {
    const opacity = png.data[4 * i + 3] / 255; // transparent pixels are laid over white
    for (let c = 0; c < 3; c++) {
      rgb[3 * i + c] = Math.round(png.data[4 * i + c] * opacity + 255 * (1 - opacity));
    }
  }
  const pictures = new ort.Tensor("uint8", rgb, [1, height, width, 3]);
  const { score } = await model.run({ pictures }, ["score"]);
  const higher = normal.filter((s) => s >= score.data[0]).length;
  const pValue = (1 + higher) / (1 + normal.length);
  console.log(`${path},${score.data[0].toFixed(6)},${pValue},${Number(pValue <= alpha)}`);
}
