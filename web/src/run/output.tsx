import type { Output } from "../data/contract";
import { bytes, safeImage, safeLink } from "../data/format";
import { Copy, Json } from "../parts/json";
import { Long, Text } from "../parts/text";

/** Shows HTML that the server has made from Markdown and cleaned. Nothing else is ever inserted as markup. */
export function CleanedHtml({ html }: { html: string }) {
  return <div class="prose" dangerouslySetInnerHTML={{ __html: html }} />;
}

/** The output of a task by the type of its content. */
export function OutputView({ output }: { output: Output }) {
  const json = output.json;
  return (
    <div class="output">
      {output.warning && (
        <p class="callout">
          <Text>{output.warning}</Text>
        </p>
      )}
      {output.html ? <CleanedHtml html={output.html} /> : output.text && json === undefined ? <Long text={output.text} /> : null}
      {json !== undefined && json !== null && (
        <div class="block">
          <Json value={json} />
        </div>
      )}
      {output.images?.map((image) => {
        const address = safeImage(image.url);
        return address && <img key={image.url} class="output-image" src={address} alt={`Output of type ${image.mime ?? "image"}`} loading="lazy" />;
      })}
      {(output.links?.length ?? 0) > 0 && (
        <ul class="output-list">
          {output.links?.map((item) => {
            const address = safeLink(item.url ?? item.uri);
            return (
              <li key={item.uri}>
                {address ? (
                  <a href={address} target="_blank" rel="noopener noreferrer">
                    <Text>{item.title ?? item.uri}</Text>
                  </a>
                ) : (
                  <Text>{item.title ? `${item.title} (${item.uri})` : item.uri}</Text>
                )}
              </li>
            );
          })}
        </ul>
      )}
      {(output.files?.length ?? 0) > 0 && (
        <ul class="output-list">
          {output.files?.map((file) => {
            const address = file.url ? safeImage(file.url) : null;
            const about = [file.mime, file.bytes != null ? bytes(file.bytes) : null].filter(Boolean).join(", ");
            return (
              <li key={file.name}>
                {address ? (
                  <a href={address} download={file.name}>
                    <Text>{file.name}</Text>
                  </a>
                ) : (
                  <Text>{file.name}</Text>
                )}
                {about && <span class="muted"> {about}</span>}
              </li>
            );
          })}
        </ul>
      )}
      {output.truncated != null && output.truncated > 0 && (
        <p class="muted">{bytes(output.truncated)} more are not shown here. The files of the run have all of it.</p>
      )}
      {(output.text || json != null) && (
        <Copy text={() => output.text ?? JSON.stringify(json, null, 2)} label={output.text ? "Copy text" : "Copy JSON"} />
      )}
    </div>
  );
}
