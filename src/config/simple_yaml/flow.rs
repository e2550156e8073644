//! Reads lists and maps in brackets.
//! Never passes a line that is not indented more than what is around them.

use super::{Around, Reader, insert, text::Within};
use crate::config::{
    source::Extent,
    tree::{Map, Node, Tree},
};

impl<'s> Reader<'s> {
    /// A list or map in brackets.
    pub(super) fn flow(&mut self, around: Around) -> Option<Node<'s>> {
        self.open()?;
        let start = self.at;
        self.at += 1;
        let tree = if self.byte(start) == Some(b'[') {
            Tree::List(self.flow_list(around)?)
        } else {
            Tree::Map(Box::new(self.flow_map(around)?))
        };
        self.at += 1;
        self.trail()?;
        self.depth -= 1;
        Some(Node::new(tree, Extent { start, end: self.at }))
    }

    fn flow_list(&mut self, around: Around) -> Option<Vec<Node<'s>>> {
        let mut nodes = Vec::new();
        loop {
            self.skip_to_flow_content(around)?;
            if self.peek() == Some(b']') {
                return Some(nodes);
            }
            nodes.push(self.flow_value(around)?);
            self.skip_to_flow_content(around)?;
            match self.peek()? {
                b',' => self.at += 1,
                b']' => return Some(nodes),
                _ => return None,
            }
        }
    }

    fn flow_map(&mut self, around: Around) -> Option<Map<'s>> {
        let mut map = Map::default();
        loop {
            self.skip_to_flow_content(around)?;
            if self.peek() == Some(b'}') {
                // After a comma, the other reader ends the map before the bracket.
                return Some(map).filter(Map::is_empty);
            }
            let key = self.scalar(Within::Flow)?;
            // What is quoted may be followed by its value at once, as in JSON.
            if (key.is_plain || self.peek() != Some(b':')) && !self.key_ends(&key) {
                return None;
            }
            self.at += 1;
            self.skip_to_flow_content(around)?;
            let node = self.flow_value(around)?;
            insert(&mut map, key, node)?;
            self.skip_to_flow_content(around)?;
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => return Some(map),
                _ => return None,
            }
        }
    }

    fn flow_value(&mut self, around: Around) -> Option<Node<'s>> {
        match self.peek()? {
            b'[' | b'{' => self.flow(around),
            _ => self.scalar(Within::Flow)?.into_node(),
        }
    }

    /// Goes to what comes next in brackets, which may be in a line that is indented more than what is around.
    fn skip_to_flow_content(&mut self, around: Around) -> Option<()> {
        self.trail()?;
        if !self.line_ends() {
            return Some(());
        }
        self.skip_to_content()?;
        around.is_none_or(|around| self.column() > around).then_some(())
    }
}
