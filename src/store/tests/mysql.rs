//! What only a database of several replicas has to keep.
