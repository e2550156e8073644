import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

const root = dirname(fileURLToPath(import.meta.url));

/** Writes the license texts of the packages whose code is in the bundle: their licenses require it. */
function licenses(): Plugin {
  return {
    name: "licenses",
    generateBundle(_options, bundle) {
      const packages = new Set<string>();
      for (const file of Object.values(bundle)) {
        if (file.type !== "chunk") continue;
        for (const id of Object.keys(file.modules)) {
          const found = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(id);
          if (found?.[1]) packages.add(found[1]);
        }
      }
      const texts = [...packages].sort().map((name) => {
        const folder = join(root, "node_modules", name);
        const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
        const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
        const text = file ? readFileSync(join(folder, file), "utf8").trim() : "";
        return `${name} ${version} (${license})\n\n${text}\n`;
      });
      this.emitFile({ type: "asset", fileName: "licenses.txt", source: texts.join(`\n${"-".repeat(72)}\n\n`) });
    },
  };
}

export default defineConfig({
  // The server has `index.html` at `/` and everything else below `/assets/`.
  base: "/assets/",
  plugins: [licenses()],
  resolve: {
    alias: {
      "d3-transition": join(root, "src/parts/no-transition.ts"),
      "d3-interpolate": join(root, "src/parts/no-transition.ts"),
    },
  },
  build: {
    target: "es2022",
    // The oldest browsers with `light-dark()`; for older ones, it would be replaced by something larger.
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    assetsDir: "",
    // A module of a single chunk has nothing to preload.
    modulePreload: false,
    cssCodeSplit: false,
    // Inlined assets would be `data:` URLs of style sheets.
    assetsInlineLimit: 0,
    rollupOptions: {
      output: {
        entryFileNames: "app.js",
        assetFileNames: (asset) => (asset.names.some((name) => name.endsWith(".css")) ? "app.css" : "[name][extname]"),
        codeSplitting: false,
      },
    },
  },
  test: { include: ["tests/unit/**/*.test.ts"] },
});
