"""What people look at: tables in the terminal, figures, and one self-contained HTML page of a run."""
