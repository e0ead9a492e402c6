//! How it looks: a head, the conversation, files on their way, a line to type.

use jiff::{civil::DateTime, tz::TimeZone};
use qrcode::{QrCode, render::unicode::Dense1x2};
use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Position, Rect},
    style::{Color, Modifier, Style, Stylize as _},
    text::{Line, Span, Text},
    widgets::{Block, LineGauge, Paragraph, Wrap},
};
use sealwire::{PeerTrust, Timestamp};

use crate::app::{App, Entry, Mark, Moving, Status, printable};

/// Columns of time and mark before a text.
const MARGIN: usize = 8;
/// Columns of a text, at most: eyes lose their way in longer lines.
const MAX_TEXT: usize = 120;

pub fn draw(frame: &mut Frame<'_>, app: &mut App) {
    let [head, body, files, input] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(app.moving.len().min(4) as u16),
        Constraint::Length(3),
    ])
    .areas(frame.area());
    draw_head(frame, head, app.status.as_ref());
    match &app.invite {
        Some(invite) if app.status.is_none() => draw_invite(frame, body, invite),
        _ => draw_entries(frame, body, app),
    }
    for (row, moving) in app.moving.values().take(files.height.into()).enumerate() {
        let area = Rect {
            y: files.y + row as u16,
            height: 1,
            ..files
        };
        draw_moving(frame, area, moving);
    }
    draw_input(frame, input, app);
}

/// One bar of reversed colours: signs tell what colours would, which are not readable in every terminal.
fn draw_head(frame: &mut Frame<'_>, area: Rect, status: Option<&Status>) {
    let text = match status {
        None => " waiting for the other side".to_owned(),
        Some(status) => {
            let sign = if status.is_connected { '●' } else { '○' };
            let mut parts = Vec::from([printable(&status.peer), status.state.clone()]);
            parts.extend(status.trust.map(trust));
            parts.retain(|part| !part.is_empty());
            format!(" {sign} {}", parts.join("  "))
        }
    };
    frame.render_widget(
        Paragraph::new(text).style(Style::new().bold().reversed()),
        area,
    );
}

fn trust(trust: PeerTrust) -> String {
    match trust {
        PeerTrust::Verified { .. } => format!("✓ {trust}"),
        PeerTrust::Invited | PeerTrust::Pinned => "not compared".to_owned(),
        _ => format!("! {trust}"),
    }
}

/// The text, and the code for a camera if there is room for it.
fn draw_invite(frame: &mut Frame<'_>, area: Rect, invite: &str) {
    let head = "Hand this to the one person that you want to talk to, over a channel that you trust. It works once.";
    let mut text = Text::from(vec![
        Line::from(head),
        Line::default(),
        Line::from(invite.bold()),
        Line::default(),
    ]);
    let code = QrCode::new(invite).map(|code| code.render::<Dense1x2>().build());
    let used = text.lines.len() + invite.len() / usize::from(area.width.max(1)) + 2;
    if let Ok(code) = code
        && code.lines().count() + used <= usize::from(area.height)
        && code.lines().map(|line| line.chars().count()).max() <= Some(usize::from(area.width))
    {
        // Light on dark as a camera wants it, whatever the terminal's colours are.
        let style = Style::new().fg(Color::White).bg(Color::Black);
        text.extend(
            code.lines()
                .map(|line| Line::styled(line.to_owned(), style)),
        );
    }
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }), area);
}

fn draw_entries(frame: &mut Frame<'_>, area: Rect, app: &mut App) {
    let width = usize::from(area.width).saturating_sub(MARGIN);
    let width = width.clamp(8, MAX_TEXT);
    let height = usize::from(area.height);
    // From the newest on, and only as many as can be seen: a long conversation costs no more than a short one.
    let mut lines = Vec::new();
    for (n, entry) in app.entries.iter().enumerate().rev() {
        let mut own = rows(entry, width);
        own.reverse();
        lines.extend(own);
        lines.extend(day_before(&app.entries, n, width));
        if lines.len() >= height + app.scroll {
            break;
        }
    }
    app.height = height;
    app.lacks = lines.len() < height + app.scroll && app.earlier.is_some();
    app.scroll = match app.lacks {
        // It is loaded, and drawn again.
        true => app.scroll,
        false => app.scroll.min(lines.len().saturating_sub(height)),
    };
    let from = app.scroll.min(lines.len());
    let mut shown: Vec<Line<'_>> = lines.into_iter().skip(from).take(height).collect();
    shown.reverse();
    let empty = height - shown.len();
    let area = Rect {
        y: area.y + empty as u16,
        height: area.height - empty as u16,
        ..area
    };
    frame.render_widget(Paragraph::new(shown), area);
}

/// The line that says on which day entry `n` was said, where the one before was on another.
fn day_before(entries: &[Entry], n: usize, width: usize) -> Option<Line<'static>> {
    let day = local(entries[n].at()?).date();
    let before = entries[..n].iter().rev().find_map(Entry::at);
    if before.is_some_and(|before| local(before).date() == day) {
        return None;
    }
    let text = format!(" {} ", day.strftime("%A, %-d %B %Y"));
    let text = format!("{text:─^0$}", width.min(60));
    Some(Line::from(vec![" ".repeat(MARGIN).into(), text.dim()]))
}

/// The lines of an entry.
fn rows(entry: &Entry, width: usize) -> Vec<Line<'static>> {
    let (margin, text, style) = match entry {
        Entry::Mine { text, at, mark, .. } => {
            let mark = match mark {
                Mark::Waiting => '…',
                Mark::Sent => '·',
                Mark::Delivered => '✓',
            };
            (
                format!("{} {mark} ", time(*at)),
                text.as_str(),
                Style::new(),
            )
        }
        Entry::Theirs { text, at } => {
            let style = Style::new().add_modifier(Modifier::BOLD);
            (format!("{} › ", time(*at)), text.as_str(), style)
        }
        Entry::Erased { at } => {
            let style = Style::new().add_modifier(Modifier::DIM | Modifier::ITALIC);
            (format!("{}   ", time(*at)), "deleted here", style)
        }
        Entry::Found { text, at, is_mine } => {
            let style = if *is_mine {
                Style::new()
            } else {
                Style::new().add_modifier(Modifier::BOLD)
            };
            (format!("{} ? ", time(*at)), text.as_str(), style)
        }
        Entry::Notice(text) => {
            let style = Style::new().add_modifier(Modifier::DIM);
            ("   –    ".to_owned(), text.as_str(), style)
        }
        Entry::Warning(text) => {
            let style = Style::new().fg(Color::Red);
            ("   !    ".to_owned(), text.as_str(), style)
        }
    };
    let text = printable(text);
    let options = textwrap::Options::new(width);
    let options = match entry {
        // Commands and names of files stay whole.
        Entry::Notice(_) | Entry::Warning(_) => options
            .word_separator(textwrap::WordSeparator::AsciiSpace)
            .word_splitter(textwrap::WordSplitter::NoHyphenation),
        _ => options,
    };
    let wrapped = text.lines().flat_map(|line| match line {
        "" => vec![String::new()],
        line => textwrap::wrap(line, &options)
            .into_iter()
            .map(String::from)
            .collect(),
    });
    wrapped
        .enumerate()
        .map(|(row, line)| {
            let margin = if row == 0 {
                margin.clone()
            } else {
                " ".repeat(MARGIN)
            };
            Line::from(vec![margin.dim(), Span::styled(line, style)])
        })
        .collect()
}

/// As the clock on the wall shows it.
fn local(at: Timestamp) -> DateTime {
    let ms = i64::try_from(at.as_unix_ms()).ok();
    let at = ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.unwrap_or_default()
        .to_zoned(TimeZone::system())
        .datetime()
}

fn time(at: Timestamp) -> String {
    local(at).strftime("%H:%M").to_string()
}

fn draw_moving(frame: &mut Frame<'_>, area: Rect, moving: &Moving) {
    let ratio = if moving.total == 0 {
        1.0
    } else {
        moving.bytes as f64 / moving.total as f64
    };
    let arrow = if moving.is_mine { '↑' } else { '↓' };
    let ratio = ratio.clamp(0.0, 1.0);
    let percent = (ratio * 100.0).floor();
    let label = format!(
        "{arrow} {} {percent}% of {}",
        moving.name,
        size(moving.total)
    );
    let gauge = LineGauge::default()
        .ratio(ratio)
        .label(label)
        .filled_symbol("━")
        .unfilled_symbol("─")
        .filled_style(Style::new().fg(Color::Cyan));
    frame.render_widget(gauge, area);
}

/// Bytes for people.
pub fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

fn draw_input(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let width = usize::from(area.width.max(3)) - 3;
    let start = app.input.visual_scroll(width);
    let hint = match &app.question {
        Some(question) => format!(" {} ", question.text),
        None if app.scroll > 0 => " PageDown for the newest ".to_owned(),
        None => " /help ".to_owned(),
    };
    let border = match &app.question {
        Some(_) => Modifier::BOLD,
        None => Modifier::DIM,
    };
    let block = Block::bordered()
        .title_bottom(Line::from(hint).alignment(Alignment::Right))
        .border_style(Style::new().add_modifier(border));
    let is_secret = app.question.as_ref().is_some_and(|one| one.is_secret);
    let value = app.input.value();
    let (line, cursor) = if is_secret {
        // Not even how long it is.
        (Paragraph::new("(not shown)".dim()), 0)
    } else {
        let cursor = app.input.visual_cursor().saturating_sub(start) as u16;
        (Paragraph::new(value).scroll((0, start as u16)), cursor)
    };
    frame.render_widget(line.block(block), area);
    frame.set_cursor_position(Position::new(area.x + 1 + cursor, area.y + 1));
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::{Terminal, backend::TestBackend};

    fn screen(app: &mut App, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, app)).unwrap();
        terminal.backend().to_string()
    }

    fn theirs(text: &str) -> Entry {
        Entry::Theirs {
            text: text.to_owned(),
            at: Timestamp::from_unix_ms(1_700_000_000_000),
        }
    }

    #[test]
    fn it_is_drawn_at_any_size_without_a_panic() {
        let mut app = App::default();
        for n in 0..50 {
            app.push(theirs(&format!("{n} {}", "word ".repeat(n))));
        }
        app.moving.insert(
            1,
            Moving {
                name: "a.txt".into(),
                is_mine: true,
                bytes: 5,
                total: 0,
            },
        );
        for invite in [None, Some("sealwire1:abc".to_owned())] {
            app.invite = invite;
            for width in [1, 2, 7, 20, 80, 200] {
                for height in [1, 2, 5, 24, 60] {
                    app.scroll = 1_000;
                    screen(&mut app, width, height);
                }
            }
        }
    }

    #[test]
    fn the_newest_is_at_the_bottom_and_scrolling_shows_the_older() {
        let mut app = App::default();
        for n in 0..100 {
            app.push(theirs(&format!("message {n}.")));
        }
        let newest = screen(&mut app, 60, 12);
        assert!(newest.contains("message 99.") && !newest.contains("message 20."));
        app.scroll_by(75);
        let older = screen(&mut app, 60, 12);
        assert!(
            older.contains("message 20.") && !older.contains("message 99."),
            "{older}"
        );
        app.scroll_by(10_000);
        assert!(screen(&mut app, 60, 12).contains("message 0."));
    }

    #[test]
    fn a_new_day_is_told_and_a_secret_is_not() {
        let mut app = App::default();
        for days in [0, 0, 1] {
            app.push(Entry::Theirs {
                text: format!("day {days}"),
                at: Timestamp::from_unix_ms(1_700_000_000_000 + days * 86_400_000),
            });
        }
        app.input = "hunter2".into();
        app.question = Some(crate::app::Question {
            text: "a passphrase".to_owned(),
            is_secret: true,
        });
        let shown = screen(&mut app, 80, 12);
        assert_eq!(shown.matches(" November 2023 ").count(), 2, "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn what_is_above_the_loaded_part_is_asked_for() {
        let mut app = App::default();
        app.push(theirs("the newest"));
        app.earlier = Some(7);
        screen(&mut app, 60, 12);
        assert!(app.lacks);
        app.push_earlier((0..100).map(|n| theirs(&n.to_string())).collect(), Some(3));
        screen(&mut app, 60, 12);
        assert!(!app.lacks);
        app.scroll_by(200);
        screen(&mut app, 60, 12);
        assert!(app.lacks);
        app.push_earlier(Vec::new(), None);
        screen(&mut app, 60, 12);
        assert!(!app.lacks && app.scroll < 110);
    }

    #[test]
    fn long_messages_are_wrapped_and_none_of_their_words_lost() {
        let mut app = App::default();
        let words: Vec<String> = (0..40).map(|n| format!("w{n}")).collect();
        app.push(theirs(&words.join(" ")));
        let shown = screen(&mut app, 30, 30);
        assert!(
            words.iter().all(|word| shown.contains(word.as_str())),
            "{shown}"
        );
    }

    #[test]
    fn an_invite_is_shown_with_its_code_where_there_is_room() {
        let invite = format!("sealwire1:{}", "a".repeat(120));
        let mut app = App {
            invite: Some(invite),
            ..App::default()
        };
        assert!(screen(&mut app, 100, 50).contains('█'));
        assert!(!screen(&mut app, 40, 12).contains('█'));
    }
}
