//! Fuzz targets as functions; their corpora run as plain tests.
