//! How far are two samples apart?
