//! Keys, orders, filters.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::super::content;
use super::super::state::{Sort, State};
use super::pages;

fn press(state: State, keys: &str) -> State {
    let pages = pages();
    keys.chars().fold(state, |state, key| {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            '\u{8}' => KeyCode::Backspace,
            '^' => KeyCode::Up,
            'v' => KeyCode::Down,
            key => KeyCode::Char(key),
        };
        state.on_key(KeyEvent::from(code), Some(&pages))
    })
}

fn control(state: State, key: char) -> State {
    state.on_key(KeyEvent::new(KeyCode::Char(key), KeyModifiers::CONTROL), None)
}

/// Workloads and models in the order shown.
fn models(state: &State) -> Vec<String> {
    let pages = pages();
    let name = |row: &content::ModelRow<'_>| {
        let model = row.model.map_or("-", |model| &model.model);
        format!("{}:{}", row.workload, model.rsplit('/').next().unwrap())
    };
    content::models(&pages, state).iter().map(name).collect()
}

#[test]
fn s_sorts_by_each_column_in_turn_with_silent_servers_last() {
    let [llama, adapter, bge] = ["chat:Llama-3.1-8B-Instruct", "chat:adapter-de", "embed:bge-m3"];
    let rows = [
        (Sort::Name, [adapter, llama, "draft:-", bge, "old:-"]),
        (Sort::Rate, [bge, llama, adapter, "draft:-", "old:-"]),
        (Sort::InFlight, [llama, adapter, bge, "draft:-", "old:-"]),
        // It has no first tokens.
        (Sort::FirstToken, [adapter, llama, bge, "draft:-", "old:-"]),
        (Sort::Duration, [adapter, llama, bge, "draft:-", "old:-"]),
        (Sort::Tokens, [llama, adapter, bge, "draft:-", "old:-"]),
    ];
    let mut state = State::default();
    for (sort, expected) in rows {
        assert_eq!(state.sort, sort);
        assert_eq!(models(&state), expected, "by {sort:?}");
        state = press(state, "s");
    }
    assert_eq!(state.sort, Sort::Name);
}

#[test]
fn a_filter_is_typed_kept_and_dropped() {
    let state = press(State::default(), "/EMBxx\u{8}\u{8}q");
    assert_eq!((state.filter.as_str(), state.filtering, state.ended), ("EMBq", true, false));
    let state = press(state, "\u{8}\n");
    assert_eq!((state.filter.as_str(), state.filtering), ("EMB", false));
    assert_eq!(models(&state), ["embed:bge-m3"]);
    let pages = pages();
    assert_eq!(content::stalls(&pages, &state).len(), 1);
    assert_eq!(content::slow(&pages, &state)[0].seq, 121);
    let state = press(state, "\u{1b}");
    assert_eq!((state.filter.as_str(), models(&state).len()), ("", 5));
    assert_eq!(press(state, "/chat\u{1b}").filter, "");
    assert_eq!(control(press(State::default(), "/abc"), 'u').filter, "");
    assert_eq!(press(State::default(), &format!("/{}", "x".repeat(1000))).filter.len(), 40);
}

#[test]
fn a_filter_finds_causes_outcomes_and_ids() {
    let found = |filter: &str| -> Vec<u64> {
        let state = State { filter: filter.to_owned(), ..State::default() };
        content::slow(&pages(), &state).iter().map(|request| request.seq).collect()
    };
    assert_eq!(found("queued"), [122]);
    assert_eq!(found("client_ab"), [122]);
    assert_eq!(found("req-123"), [123]);
    assert_eq!(found("4bf92f"), [121]);
    assert_eq!(found("chat"), [123, 122]);
    assert!(found("nobody").is_empty());
}

#[test]
fn the_selection_follows_its_request_and_stays_within_the_list() {
    assert_eq!(press(State::default(), "^k").selected, None);
    let state = press(State::default(), "jv");
    assert_eq!(state.selected, Some(121));
    assert_eq!(press(state.clone(), "jjj").selected, Some(121));
    assert_eq!(press(state.clone(), "k").selected, Some(122));
    assert_eq!(press(state.clone(), "kk").selected, None, "the first is the newest, whichever that is");
    // Two newer ones came: it has moved down.
    let mut pages = pages();
    for seq in [124, 125] {
        let newer = super::super::pages::SlowRequest { seq, ..(*pages.slow.requests[0]).clone() };
        pages.slow.requests.insert(0, newer.into());
    }
    assert_eq!(state.index(&content::slow(&pages, &state)), 4);
    pages.slow.requests.truncate(2);
    assert_eq!(state.index(&content::slow(&pages, &state)), 0, "it is not listed any more");
}

#[test]
fn enter_opens_what_is_selected_and_esc_goes_back() {
    let state = press(State::default(), "j\n");
    assert_eq!(state.open.as_ref().unwrap().seq, 122);
    assert_eq!(press(state.clone(), "j").open.unwrap().seq, 121);
    assert_eq!(press(state.clone(), "kkk").open.unwrap().seq, 123);
    let state = press(state, "\u{1b}");
    assert!(state.open.is_none() && state.selected == Some(122));
    assert!(press(State { filter: "nobody".to_owned(), ..State::default() }, "\n").open.is_none());
    let before_the_first_answer = State::default().on_key(KeyEvent::from(KeyCode::Enter), None);
    assert!(before_the_first_answer.open.is_none());
}

#[test]
fn help_pause_and_the_ways_out() {
    assert!(press(State::default(), "?").help);
    for back in ["??", "?\u{1b}", "?j"] {
        let state = press(State { filter: "x".to_owned(), ..State::default() }, back);
        assert!(!state.help && state.filter == "x" && state.selected.is_none(), "{back:?}");
    }
    assert!(press(State::default(), "p").paused && press(State::default(), " ").paused);
    assert!(!press(State::default(), "p ").paused);
    assert!(press(State::default(), "q").ended && press(State::default(), "?q").ended);
    assert!(control(State::default(), 'c').ended && control(press(State::default(), "/a"), 'c').ended);
    assert!(!control(State::default(), 'q').ended);
}
