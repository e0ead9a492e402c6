//! How it looks: a head, the conversation, files on their way, a line to type.

use qrcode::{QrCode, render::unicode::Dense1x2};
use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Position, Rect},
    style::{Color, Modifier, Style, Stylize as _},
    text::{Line, Span, Text},
    widgets::{Block, LineGauge, Paragraph, Wrap},
};

use crate::app::{App, Entry, Moving, Status, printable};

/// Columns of time, mark and name before a text.
const MARGIN: usize = 8;

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

fn draw_head(frame: &mut Frame<'_>, area: Rect, status: Option<&Status>) {
    let line = match status {
        None => Line::from(" waiting for the other side ").bold().reversed(),
        Some(status) => {
            let state = if status.is_connected {
                Color::Green
            } else {
                Color::Yellow
            };
            let trust = if status.is_verified {
                Color::Green
            } else {
                Color::Yellow
            };
            Line::from(vec![
                format!(" {} ", printable(&status.peer)).bold(),
                Span::styled(format!(" {} ", status.state), Style::new().fg(state)),
                Span::styled(format!(" {} ", status.trust), Style::new().fg(trust)),
            ])
        }
    };
    frame.render_widget(Paragraph::new(line), area);
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
    let width = usize::from(area.width).saturating_sub(MARGIN).max(8);
    let height = usize::from(area.height);
    // From the newest on, and only as many as can be seen: a long conversation costs no more than a short one.
    let mut lines = Vec::new();
    for entry in app.entries.iter().rev() {
        let mut own = rows(entry, width);
        own.reverse();
        lines.extend(own);
        if lines.len() >= height + app.scroll {
            break;
        }
    }
    app.scroll = app.scroll.min(lines.len().saturating_sub(height));
    let mut shown: Vec<Line<'_>> = lines.into_iter().skip(app.scroll).take(height).collect();
    shown.reverse();
    let empty = height - shown.len();
    let area = Rect {
        y: area.y + empty as u16,
        height: area.height - empty as u16,
        ..area
    };
    frame.render_widget(Paragraph::new(shown), area);
}

/// The lines of an entry.
fn rows(entry: &Entry, width: usize) -> Vec<Line<'static>> {
    let (margin, text, style) = match entry {
        Entry::Mine {
            text,
            at,
            delivered,
            ..
        } => {
            let mark = if *delivered { '✓' } else { '·' };
            (
                format!("{} {mark} ", time(*at)),
                text,
                Style::new().fg(Color::Cyan),
            )
        }
        Entry::Theirs { text, at } => (format!("{}   ", time(*at)), text, Style::new()),
        Entry::Notice(text) => (
            "   –    ".to_owned(),
            text,
            Style::new().add_modifier(Modifier::DIM),
        ),
        Entry::Warning(text) => ("   !    ".to_owned(), text, Style::new().fg(Color::Red)),
    };
    let text = printable(text);
    let wrapped = text.lines().flat_map(|line| match line {
        "" => vec![String::new()],
        line => textwrap::wrap(line, width)
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

/// Hours and minutes, UTC.
fn time(at: sealwire::Timestamp) -> String {
    at.to_string().get(11..16).unwrap_or_default().to_owned()
}

fn draw_moving(frame: &mut Frame<'_>, area: Rect, moving: &Moving) {
    let ratio = if moving.total == 0 {
        1.0
    } else {
        moving.bytes as f64 / moving.total as f64
    };
    let arrow = if moving.is_mine { '↑' } else { '↓' };
    let label = format!(
        "{arrow} {} {} of {}",
        moving.name,
        size(moving.bytes),
        size(moving.total)
    );
    let gauge = LineGauge::default()
        .ratio(ratio.clamp(0.0, 1.0))
        .label(label)
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
    let hint = if app.scroll > 0 {
        " PageDown for the newest "
    } else {
        " /help "
    };
    let block = Block::bordered()
        .title_bottom(Line::from(hint).alignment(Alignment::Right))
        .border_style(Style::new().add_modifier(Modifier::DIM));
    let line = Paragraph::new(app.input.value())
        .scroll((0, start as u16))
        .block(block);
    frame.render_widget(line, area);
    let cursor = app.input.visual_cursor().saturating_sub(start) as u16;
    frame.set_cursor_position(Position::new(area.x + 1 + cursor, area.y + 1));
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};
    use sealwire::Timestamp;

    use super::*;

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
