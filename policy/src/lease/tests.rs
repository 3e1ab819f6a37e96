//! The lease table under the rules of "Who is asking".
