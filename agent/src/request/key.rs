//! The member names of requests and answers that mean something; every other name is one.

macro_rules! keys {
    ($($variant:ident $name:literal)*) => {
        /// A member name on the path to a value.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum Key {
            /// Any other name, or one that was not seen.
            #[default]
            Unknown,
            /// An element of an array.
            Item,
            $($variant,)*
        }

        impl Key {
            pub fn of(name: &[u8]) -> Self {
                match name {
                    $($name => Self::$variant,)*
                    _ => Self::Unknown,
                }
            }
        }
    };
}

keys! {
    Id b"id"
    Object b"object"
    Model b"model"
    Choices b"choices"
    Delta b"delta"
    Content b"content"
    Logprobs b"logprobs"
    FinishReason b"finish_reason"
    StopReason b"stop_reason"
    TokenIds b"token_ids"
    Text b"text"
    Type b"type"
    Usage b"usage"
    PromptTokens b"prompt_tokens"
    CompletionTokens b"completion_tokens"
    InputTokens b"input_tokens"
    OutputTokens b"output_tokens"
    Logprob b"logprob"
    TokenLogprobs b"token_logprobs"
    Message b"message"
    Reasoning b"reasoning"
    ReasoningContent b"reasoning_content"
    Refusal b"refusal"
    ToolCalls b"tool_calls"
    Function b"function"
    FunctionCall b"function_call"
    Name b"name"
    Arguments b"arguments"
    Audio b"audio"
    Thinking b"thinking"
    PartialJson b"partial_json"
    ContentBlock b"content_block"
    Input b"input"
    Response b"response"
    Output b"output"
    OutputItem b"item"
    Summary b"summary"
    Status b"status"
    IncompleteDetails b"incomplete_details"
    Reason b"reason"
    MetaInfo b"meta_info"
    RequestId b"request_id"
    Data b"data"
    Results b"results"
    Error b"error"
}
