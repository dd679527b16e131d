//! What a picture is drawn with: a few shapes of SVG, whose colours are classes, so that they suit a light page and a
//! dark one.

use std::fmt::Write as _;

/// Classes of text, lines and areas: name, colour on white, colour on black.
const COLOURS: [(&str, &str, &str); 7] = [
    ("ink", "#1f2328", "#e6edf3"),
    ("dim", "#656d76", "#9198a1"),
    ("a", "#0969da", "#4493f8"),
    ("b", "#8250df", "#ab7df8"),
    ("good", "#1a7f37", "#3fb950"),
    ("bad", "#cf222e", "#f85149"),
    ("odd", "#9a6700", "#d29922"),
];

/// Where text begins, ends or has its middle.
#[derive(Debug, Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// SVG as it grows.
#[derive(Debug, Default)]
pub(super) struct Canvas(String);

impl Canvas {
    pub(super) fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let _ = writeln!(
            self.0,
            r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
        );
    }

    pub(super) fn bar(&mut self, class: &str, x: f64, (from, to): (f64, f64), width: f64) {
        let (left, height) = (x - width / 2.0, (to - from).max(2.0));
        let _ = writeln!(
            self.0,
            r#"<rect class="{class}" x="{left:.1}" y="{from:.1}" width="{width}" height="{height:.1}" rx="2"/>"#
        );
    }

    pub(super) fn text(&mut self, class: &str, x: f64, y: f64, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        let _ = writeln!(
            self.0,
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#
        );
    }

    /// From one lane to another.
    pub(super) fn arrow(&mut self, colour: &str, from: f64, to: f64, y: f64) {
        let back = if from < to { -8.0 } else { 8.0 };
        self.line(&format!("way s-{colour}"), (from, y), (to + back, y));
        let (base, up, down) = (to + back, y - 4.5, y + 4.5);
        let _ = writeln!(
            self.0,
            r#"<path class="f-{colour}" d="M{to:.1} {y:.1} L{base:.1} {up:.1} L{base:.1} {down:.1} Z"/>"#
        );
    }

    pub(super) fn cross(&mut self, colour: &str, x: f64, y: f64) {
        let class = format!("way s-{colour}");
        self.line(&class, (x - 5.0, y - 5.0), (x + 5.0, y + 5.0));
        self.line(&class, (x - 5.0, y + 5.0), (x + 5.0, y - 5.0));
    }

    /// The whole picture, on a ground of its own: a page's may be of any colour.
    pub(super) fn finish(self, width: f64, height: f64, title: &str, description: &str) -> String {
        let (title, description) = (escape(title), escape(description));
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}" width="{width:.0}" height="{height:.0}" role="img" aria-labelledby="title description">
<title id="title">{title}</title>
<desc id="description">{description}</desc>
<style>{style}</style>
<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="ground" width="6" height="6"/><line class="s-odd" x1="0" y1="0" x2="0" y2="6" stroke-width="5"/></pattern></defs>
<rect class="ground" width="{width:.0}" height="{height:.0}" rx="8"/>
{body}</svg>
"##,
            style = style(),
            body = self.0,
        )
    }
}

fn style() -> String {
    let mut style = String::from(
        "text{font-family:system-ui,'Segoe UI','DejaVu Sans',Arial,sans-serif;font-size:13px}\
         .title{font-size:18px;font-weight:600}.head{font-size:14px;font-weight:600}.strong{font-weight:700}\
         .small{font-size:11px}.time{font-size:12px;font-variant-numeric:tabular-nums}\
         .lane{stroke-width:1.5}.way{stroke-width:1.6}.waits{stroke-width:3;stroke-dasharray:2 4}\
         .belief{fill-opacity:.22}.letter{fill:#ffffff}.hatched{fill:url(#hatch);stroke-width:1}\n",
    );
    let colours = |style: &mut String,
                   pick: fn(&(&'static str, &'static str, &'static str)) -> &'static str| {
        for entry in &COLOURS {
            let (name, colour) = (entry.0, pick(entry));
            let _ = write!(style, ".f-{name}{{fill:{colour}}}.s-{name}{{stroke:{colour}}}");
        }
    };
    style.push_str(".ground{fill:#ffffff}.lane{stroke:#d0d7de}");
    colours(&mut style, |entry| entry.1);
    style.push_str("\n@media (prefers-color-scheme:dark){.ground{fill:#0d1117}.lane{stroke:#3d444d}");
    colours(&mut style, |entry| entry.2);
    style.push('}');
    style
}

/// Text as XML has it.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML has no way to write them.
            control if control.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}
