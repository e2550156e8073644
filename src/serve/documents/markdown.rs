//! Markdown of agents and models as HTML that cannot do anything.
//!
//! Only the elements that are written here occur. Raw HTML is shown as text, images as their description, and links lead to
//! web pages and mail addresses only.

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag};
use url::Url;

use crate::view::text::{printable_text, push_markup_text};

/// The maximum depth of elements. Deeper ones are omitted, and their text stays.
const MAX_DEPTH: usize = 32;

/// Returns a text as it is written in HTML.
pub(crate) fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    push_markup_text(&mut html, text);
    html
}

/// Converts Markdown to HTML.
pub(super) fn markdown_html(markdown: &str) -> String {
    let text = printable_text(markdown);
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut writer = HtmlWriter::default();
    Parser::new_ext(&text, options).for_each(|event| writer.write(event));
    writer.html
}

/// Writes the events of a parser as HTML.
#[derive(Default)]
struct HtmlWriter {
    html: String,
    /// The end of each open element; empty for one that is omitted.
    open: Vec<&'static str>,
    is_in_table_head: bool,
}

impl HtmlWriter {
    fn write(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(&tag),
            Event::End(_) => self.end(),
            Event::Code(code) => {
                self.html.push_str("<code>");
                push_markup_text(&mut self.html, &code);
                self.html.push_str("</code>");
            }
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => push_markup_text(&mut self.html, &text),
            Event::SoftBreak => self.html.push('\n'),
            Event::HardBreak => self.html.push_str("<br>\n"),
            Event::Rule => self.html.push_str("<hr>\n"),
            Event::TaskListMarker(is_done) => self.html.push_str(if is_done { "☑ " } else { "☐ " }),
            // Their extensions are off.
            Event::InlineMath(text) | Event::DisplayMath(text) | Event::FootnoteReference(text) => {
                push_markup_text(&mut self.html, &text);
            }
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        let (start, end): (String, &'static str) = match tag {
            Tag::Paragraph => ("<p>".into(), "</p>\n"),
            Tag::Heading { level, .. } => match level {
                // The page has headings of its own above.
                HeadingLevel::H1 | HeadingLevel::H2 => ("<h3>".into(), "</h3>\n"),
                HeadingLevel::H3 => ("<h4>".into(), "</h4>\n"),
                HeadingLevel::H4 => ("<h5>".into(), "</h5>\n"),
                HeadingLevel::H5 | HeadingLevel::H6 => ("<h6>".into(), "</h6>\n"),
            },
            Tag::BlockQuote(_) => ("<blockquote>\n".into(), "</blockquote>\n"),
            Tag::CodeBlock(CodeBlockKind::Indented | CodeBlockKind::Fenced(_)) => {
                ("<pre><code>".into(), "</code></pre>\n")
            }
            Tag::List(None) => ("<ul>\n".into(), "</ul>\n"),
            Tag::List(Some(1)) => ("<ol>\n".into(), "</ol>\n"),
            Tag::List(Some(start)) => (format!("<ol start=\"{start}\">\n"), "</ol>\n"),
            Tag::Item => ("<li>".into(), "</li>\n"),
            Tag::Table(_) => ("<table>\n".into(), "</tbody></table>\n"),
            Tag::TableHead => {
                self.is_in_table_head = true;
                ("<thead><tr>".into(), "</tr></thead>\n<tbody>\n")
            }
            Tag::TableRow => ("<tr>".into(), "</tr>\n"),
            Tag::TableCell if self.is_in_table_head => ("<th>".into(), "</th>"),
            Tag::TableCell => ("<td>".into(), "</td>"),
            Tag::Emphasis => ("<em>".into(), "</em>"),
            Tag::Strong => ("<strong>".into(), "</strong>"),
            Tag::Strikethrough => ("<del>".into(), "</del>"),
            Tag::Link { dest_url, .. } => match safe_address(dest_url) {
                Some(address) => (
                    format!(
                        "<a href=\"{}\" target=\"_blank\" rel=\"noopener noreferrer nofollow\">",
                        escaped(&address)
                    ),
                    "</a>",
                ),
                None => (String::new(), ""),
            },
            // The description of an image follows as text.
            _ => (String::new(), ""),
        };
        let is_shown = self.open.len() < MAX_DEPTH || matches!(tag, Tag::TableHead | Tag::TableRow | Tag::TableCell);
        if is_shown {
            self.html.push_str(&start);
        }
        self.open.push(if is_shown { end } else { "" });
    }

    fn end(&mut self) {
        let end = self.open.pop().unwrap_or_default();
        if end.starts_with("</tr></thead>") {
            self.is_in_table_head = false;
        }
        self.html.push_str(end);
    }
}

/// Returns the address of a link that may be followed: a web page, or a mail address.
pub(super) fn safe_address(address: &str) -> Option<String> {
    let url = Url::parse(address.trim()).ok()?;
    matches!(url.scheme(), "http" | "https" | "mailto").then(|| url.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_markdown_becomes_elements() {
        let markdown = "# Title\n\nSome *text* and **more** with `code`.\n\n- one\n- [x] two\n\n3. three\n\n> quoted\n\n\
                        ```rust\nlet x = 1 < 2;\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n[site](https://example.com/?a=1&b=2)";
        let html = markdown_html(markdown);
        for part in [
            "<h3>Title</h3>",
            "<p>Some <em>text</em> and <strong>more</strong> with <code>code</code>.</p>",
            "<ul>\n<li>one</li>\n<li>☑ two</li>\n</ul>",
            "<ol start=\"3\">\n<li>three</li>\n</ol>",
            "<blockquote>\n<p>quoted</p>\n</blockquote>",
            "<pre><code>let x = 1 &lt; 2;\n</code></pre>",
            "<thead><tr><th>a</th><th>b</th></tr></thead>",
            "<tr><td>1</td><td>2</td></tr>\n</tbody></table>",
            "<a href=\"https://example.com/?a=1&amp;b=2\" target=\"_blank\" rel=\"noopener noreferrer nofollow\">site</a>",
        ] {
            assert!(html.contains(part), "{part} in {html}");
        }
    }

    #[test]
    fn nothing_of_agents_becomes_markup() {
        for hostile in [
            "<script>alert(1)</script>",
            "text <img src=x onerror=alert(1)> more",
            "<svg><script>alert(1)</script></svg>",
            "[x](javascript:alert(1))",
            "[x](  JaVaScRiPt:alert(1))",
            "[x](data:text/html,<script>alert(1)</script>)",
            "[x](vbscript:x)",
            "![x](https://evil.example/pixel.png)",
            "![x](javascript:alert(1))",
            "<https://example.com/\"onmouseover=\"alert(1)>",
            "[x](https://example.com/\"><script>)",
            "```\n</code></pre><script>alert(1)</script>\n```",
            "# </h3><script>",
            "| <script> |\n|---|\n| </td><script> |",
            "[a]: javascript:alert(1)\n\n[a]",
            "</div></main><form action=https://evil.example>",
            "\u{202e}reordered\u{0} \u{1b}[31mred",
        ] {
            let html = markdown_html(hostile);
            let tags: Vec<&str> = html.split('<').skip(1).map(|rest| rest.split('>').next().unwrap_or(rest)).collect();
            for tag in &tags {
                let name = tag.trim_start_matches('/').split(' ').next().unwrap_or_default();
                let known = [
                    "p", "a", "h3", "h4", "h5", "h6", "code", "pre", "table", "thead", "tbody", "tr", "th", "td", "br",
                    "em", "strong", "ul", "li",
                ];
                assert!(known.contains(&name), "{hostile}: {html}");
                let attributes = tag.strip_prefix("a href=\"").map(|rest| rest.split('"').next().unwrap_or_default());
                assert!(attributes.is_none_or(|url| url.starts_with("http")), "{hostile}: {html}");
                assert_eq!(
                    tag.matches("=\"").count(),
                    if name == "a" && tag.len() > 2 { 3 } else { 0 },
                    "{hostile}: {html}"
                );
            }
            assert!(!html.contains(['\u{1b}', '\u{0}', '\u{202e}']), "{html}");
        }
    }

    #[test]
    fn depth_is_limited() {
        let html = markdown_html(&(">".repeat(5_000) + " deep"));
        assert!(html.matches("<blockquote>").count() <= MAX_DEPTH && html.contains("deep"));
        assert_eq!(html.matches("<blockquote>").count(), html.matches("</blockquote>").count());
    }
}
