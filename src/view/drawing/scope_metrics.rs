//! The sizes of what is drawn, in pixels or in characters.

/// The sizes of boxes, and the space between them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ScopeMetrics {
    /// The height of the box of a task: two lines of text.
    pub(super) task_height: f64,
    /// The height of the heading of a group.
    pub(super) heading_height: f64,
    /// The space between the border of a group and its tasks.
    pub(super) group_padding: f64,
    /// The average width of a character of the name and of the detail, which is smaller.
    pub(super) char_widths: (f64, f64),
    /// The space beside the name, for the mark of a state, and beside the detail, for the word of a state.
    pub(super) text_paddings: (f64, f64),
    /// The least and the greatest width of the box of a task.
    pub(super) task_widths: (f64, f64),
    /// The widths of boxes are multiples of it.
    pub(super) width_unit: f64,
    /// Set if the middles of nodes are whole numbers.
    pub(super) is_grid: bool,
    /// Set if the tasks of a group are drawn in its box.
    pub(super) opens_groups: bool,
    /// The space between two nodes of a layer.
    pub(super) node_gap: f64,
    /// The space between two layers.
    pub(super) layer_gap: f64,
    /// The width that a bend of an edge takes.
    pub(super) bend_width: f64,
    /// The ratio of width to height that unconnected parts are arranged for.
    pub(super) aspect_ratio: f64,
    /// The width that unconnected parts do not exceed, unless one of them is wider.
    pub(super) max_row_width: f64,
}

impl ScopeMetrics {
    /// The sizes of a picture, in pixels.
    pub(super) const PIXELS: Self = Self {
        task_height: 48.0,
        heading_height: 30.0,
        group_padding: 14.0,
        char_widths: (7.2, 6.2),
        text_paddings: (44.0, 96.0),
        task_widths: (140.0, 290.0),
        width_unit: 1.0,
        is_grid: false,
        opens_groups: true,
        node_gap: 24.0,
        layer_gap: 40.0,
        bend_width: 8.0,
        aspect_ratio: 1.6,
        max_row_width: f64::INFINITY,
    };

    /// Returns the sizes of a text with so many columns and rows between layers. The middle of a box is a column, since
    /// its width is even.
    pub(super) fn characters(columns: usize, layer_gap: usize) -> Self {
        Self {
            task_height: 4.0,
            heading_height: 0.0,
            group_padding: 0.0,
            char_widths: (1.0, 1.0),
            // Beside the border, for a mark, and for what says that a task is repeated.
            text_paddings: (6.0, 10.0),
            task_widths: (14.0, 34.0),
            width_unit: 2.0,
            is_grid: true,
            opens_groups: false,
            node_gap: 3.0,
            layer_gap: layer_gap as f64,
            bend_width: 1.0,
            aspect_ratio: 5.0,
            max_row_width: columns as f64,
        }
    }

    /// Returns the rows between two layers of a text.
    pub(super) fn layer_gap(&self) -> usize {
        self.layer_gap as usize
    }
}
