//! A connection whose client has to take each answer in a given time.
//!
//! In: a stream, and when requests came. Out: the stream, whose writes fail once the client is late. A client
//! that takes a little now and then never makes the kernel's own limit run out, and would keep its place.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How many answers a connection's handler has begun.
#[derive(Clone, Debug, Default)]
pub struct Answers(Arc<AtomicU64>);

impl Answers {
    /// A request came: its answer's time begins.
    pub fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The stream.
#[derive(Debug)]
pub struct Timed<S> {
    stream: S,
    answers: Answers,
    /// The answer that `late` is of.
    answer: u64,
    late: Pin<Box<Sleep>>,
    time_max: Duration,
}

impl<S> Timed<S> {
    /// Gives each of these answers so much time; the first one's begins now.
    pub fn new(stream: S, answers: Answers, time_max: Duration) -> Self {
        Self { stream, answers, answer: 0, late: Box::pin(sleep(time_max)), time_max }
    }

    /// Ready with an error once the answer under way is late.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        let answer = self.answers.0.load(Ordering::Relaxed);
        if answer != self.answer {
            self.answer = answer;
            self.late.as_mut().reset(Instant::now() + self.time_max);
        }
        ready!(self.late.as_mut().poll(context));
        Poll::Ready(Error::new(ErrorKind::TimedOut, "the client does not take its answer"))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        if let Poll::Ready(late) = self.poll_late(context) {
            return Poll::Ready(Err(late));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        if let Poll::Ready(late) = self.poll_late(context) {
            return Poll::Ready(Err(late));
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const TIME_MAX: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_a_little_now_and_then_is_late_in_the_end() {
        let (near, mut far) = duplex(10);
        let answers = Answers::default();
        let mut near = Timed::new(near, answers.clone(), TIME_MAX);
        let began = Instant::now();
        answers.begin();
        let reader = tokio::spawn(async move {
            while far.read_u8().await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        let error = near.write_all(&[0; 1000]).await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed().as_secs()), (ErrorKind::TimedOut, 30));
        drop(near);
        reader.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn each_answer_has_its_own_time() {
        let (near, mut far) = duplex(10);
        let answers = Answers::default();
        let mut near = Timed::new(near, answers.clone(), TIME_MAX);
        for _ in 0..3 {
            sleep(TIME_MAX * 2).await;
            answers.begin();
            near.write_all(&[0; 10]).await.unwrap();
            far.read_exact(&mut [0; 10]).await.unwrap();
        }
    }
}
